// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "enclave_proc/protocol/control_session.h"
#include "enclave_proc/registry/published_socket.h"
#include "src/runtime/accept_gate.h"
#include "src/runtime/event_loop.h"

namespace nitro::proc {

/// Serves the socket of an enclave process. The owner of the process and root may use every command; others may only
/// query (SO_PEERCRED identifies them). Misbehaving clients do no harm: each has bounded memory and a time limit for
/// its whole session, and the number of clients is bounded; a new client displaces the oldest.
class ControlServer {
 public:
  static constexpr std::size_t kMaxClients = 256;
  static constexpr std::chrono::seconds kSessionLimit{10};

  /// Mode of the socket: everybody may connect; each command checks who may use it.
  static constexpr unsigned kSocketMode = 0766;

  /// Serves clients that connect to `socket`. The loop must outlive the server. Errors: kEpoll.
  static Result<std::unique_ptr<ControlServer>> start(EventLoop& loop, PublishedSocket socket, ControlHandlers handlers,
                                                      std::chrono::milliseconds session_limit = kSessionLimit);
  ~ControlServer();

  /// Accepts no more clients and removes the socket's name; sessions in progress continue.
  void stop_listening();

 private:
  class Client;

  ControlServer(EventLoop& loop, ControlHandlers handlers, std::chrono::milliseconds session_limit);
  void add(Fd socket);
  void drop(const Client* client);

  EventLoop& loop_;
  ControlHandlers handlers_;
  PublishedSocket listener_;
  std::chrono::milliseconds session_limit_;
  AcceptGate gate_;
  std::vector<std::unique_ptr<Client>> clients_;  // oldest first
};

}  // namespace nitro::proc
