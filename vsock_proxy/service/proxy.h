// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/runtime/accept_gate.h"
#include "src/runtime/event_loop.h"
#include "src/runtime/log.h"
#include "vsock_proxy/config/routes.h"
#include "vsock_proxy/names/resolver.h"
#include "vsock_proxy/relay/relay_pool.h"
#include "vsock_proxy/service/counters.h"
#include "vsock_proxy/service/limited_log.h"
#include "vsock_proxy/service/occupancy.h"
#include "vsock_proxy/service/opening.h"
#include "vsock_proxy/sockets/listen.h"

namespace nitro::proxy {

/// Serves routes. One thread, the loop's, accepts clients and connects to servers; the threads of a RelayPool move the
/// bytes.
class Proxy {
 public:
  struct Settings {
    unsigned relay_threads = 1;         ///< at least 1
    std::uint32_t max_connections = 0;  ///< of all routes; further clients wait in the backlog. 0: no limit
    std::optional<LocalEnclave> local;  ///< its folder takes the place of vsock
    Resolver::Settings resolver;
  };

  /// `loop` and `log` must outlive the proxy. Signals must be blocked already. Errors: kEpoll, kSocket, kThreadJoin.
  static Result<std::unique_ptr<Proxy>> create(EventLoop& loop, Log& log, Settings settings);
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;
  /// Resets all connections.
  ~Proxy() = default;

  /// Takes sockets that listen already (socket activation); routes that listen at their addresses use them.
  void adopt(std::vector<Fd> listening);

  /// Makes these the routes. A route that is as before is not touched, and one that listens where another did takes its
  /// socket over, with the clients in the backlog. Connections go on whatever happens to their route. A failure changes
  /// nothing. Errors: kSocket when a route cannot listen, kInvalidArgument when it cannot work here; the message names
  /// the route.
  Result<void> apply(std::vector<Route> routes);

  /// Accepts no more clients. Those that are there stay.
  void stop_listening();
  /// Clients that are connected or being connected.
  [[nodiscard]] std::uint64_t clients() const { return occupancy_->taken(); }
  [[nodiscard]] const Counters& counters() const { return counters_; }
  [[nodiscard]] bool check_alive() { return pool_->check_alive(); }
  /// "2 routes, 17 connections".
  [[nodiscard]] std::string status() const;

 private:
  /// A route that is served.
  struct Served {
    std::shared_ptr<const Route> route;
    std::shared_ptr<RouteCounters> counters;
    std::shared_ptr<std::atomic<std::uint64_t>> clients;  // that hold a place
    Fd socket;                                            // the listening one
    std::unique_ptr<AcceptGate> gate;
    bool held = false;
  };
  using Listening = std::shared_ptr<Listener>;

  Proxy(EventLoop& loop, Log& log, Settings settings);
  [[nodiscard]] Endpoint place_of(const Route& route) const;
  [[nodiscard]] unsigned mode_of(const Route& route) const;
  [[nodiscard]] Result<void> check(const Route& route) const;
  Result<std::map<std::string, Listening>> listen_for(const std::vector<Route>& routes);
  Result<std::unique_ptr<Served>> serve(Route route, const Listener& listener);
  void accept(Served& served, Fd client);
  [[nodiscard]] bool admits(const Route& route, const std::optional<SocketAddress>& client) const;
  void opened(const std::shared_ptr<const Route>& route, RouteCounters& counters, std::optional<std::uint32_t> cid,
              const std::string& client_name, std::shared_ptr<Occupancy::Place> place, Opening::Opened opened);
  [[nodiscard]] bool is_full(const Served& served) const;
  void hold_if_full(Served& served);
  void resume();

  EventLoop& loop_;
  Log& log_;
  Settings settings_;
  LimitedLog limited_log_;
  Counters counters_;
  std::uint64_t max_clients_ = 0;
  std::shared_ptr<Occupancy> occupancy_;
  EventLoop::Watch bell_watch_;
  std::unique_ptr<Resolver> resolver_;
  std::vector<Fd> adopted_;
  std::map<std::string, Listening> listening_;             // by where: Endpoint::text()
  std::map<std::string, std::unique_ptr<Served>> served_;  // by route name
  std::list<std::unique_ptr<Opening>> openings_;
  std::unique_ptr<RelayPool> pool_;
};

}  // namespace nitro::proxy
