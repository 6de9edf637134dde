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

/// Serves the socket of an enclave process. The owner of the process and root may do everything; others may only ask
/// (as SO_PEERCRED tells who they are). Any number of clients may misbehave: each has bounded memory, a limited time
/// for its whole session, and there is a bound to how many are served at once; the oldest has to go for a new one.
class ControlServer {
 public:
  static constexpr std::size_t kMaxClients = 256;
  static constexpr std::chrono::seconds kSessionLimit{10};

  /// Of the socket: everybody may connect; each command decides who may use it.
  static constexpr unsigned kSocketMode = 0766;

  /// Serves those who connect to `socket`. The loop must outlive the server. Errors: kEpoll.
  static Result<std::unique_ptr<ControlServer>> start(EventLoop& loop, PublishedSocket socket, ControlHandlers handlers,
                                                      std::chrono::milliseconds session_limit = kSessionLimit);
  ~ControlServer();

  /// Accepts no more clients and removes the socket's name; clients that are being served stay.
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
