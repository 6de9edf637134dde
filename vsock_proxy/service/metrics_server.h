// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <list>
#include <memory>

#include "src/runtime/accept_gate.h"
#include "vsock_proxy/service/counters.h"
#include "vsock_proxy/sockets/listen.h"

namespace nitro::proxy {

/// Serves the counters over HTTP: GET /metrics. For this machine only: a Unix socket, or a port of the loopback.
class MetricsServer {
 public:
  /// Scrapers that are served at the same time; others wait in the backlog.
  static constexpr std::size_t kMaxClients = 16;
  /// A scraper that takes longer is dropped.
  static constexpr std::chrono::seconds kTime{10};

  /// `loop` and `counters` must outlive the server. Errors: kInvalidArgument when `endpoint` is reachable from other
  /// machines; kSocket, kEpoll.
  static Result<std::unique_ptr<MetricsServer>> open(EventLoop& loop, const Counters& counters,
                                                     const Endpoint& endpoint);
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;
  ~MetricsServer();

 private:
  class Client;
  MetricsServer(EventLoop& loop, const Counters& counters);
  void accept(Fd socket);
  void remove(const Client& client);

  EventLoop& loop_;
  const Counters& counters_;
  Listener listener_;
  AcceptGate gate_;
  std::list<std::unique_ptr<Client>> clients_;
};

}  // namespace nitro::proxy
