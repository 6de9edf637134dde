// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/service/proxy.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include <algorithm>
#include <cerrno>

#include "src/base/bytes.h"

namespace nitro::proxy {
namespace {

/// Descriptors that are not for clients: the loops, name servers, metrics, listeners being replaced.
constexpr std::uint64_t kReservedDescriptors = 48;
constexpr std::uint64_t kDescriptorsPerThread = 4;
constexpr std::uint64_t kDescriptorsPerPipe = 2;
/// A client and its server; a second attempt to connect is short and covered by the reserve.
constexpr std::uint64_t kDescriptorsPerClient = 2;

/// The mode of a socket in a local enclave's folder, which only the enclave's owner can enter: the proxy may be another
/// user's.
constexpr unsigned kLocalMode = 0666;

std::uint64_t descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return UINT64_MAX;
  return limit.rlim_cur;
}

/// How many pipes each thread may have: as many as are of use (more slow receivers of bulk are rare), but not more than
/// an eighth of the descriptors.
std::uint64_t pipes_per_thread(std::uint64_t limit, unsigned threads) {
  constexpr std::uint64_t kOfUse = 64;
  return std::min(kOfUse, limit / 8 / kDescriptorsPerPipe / threads);
}

/// How many clients this process has descriptors for.
std::uint64_t clients_by_descriptors(unsigned threads, std::size_t listeners) {
  const std::uint64_t limit = descriptor_limit();
  if (limit == UINT64_MAX) return limit;
  const std::uint64_t per_thread = kDescriptorsPerThread + kDescriptorsPerPipe * pipes_per_thread(limit, threads);
  const std::uint64_t reserved = kReservedDescriptors + per_thread * threads + 2 * listeners;
  return limit > reserved + kDescriptorsPerClient ? (limit - reserved) / kDescriptorsPerClient : 1;
}

}  // namespace

Proxy::Proxy(EventLoop& loop, Log& log, Settings settings)
    : loop_(loop), log_(log), settings_(std::move(settings)), limited_log_(log) {}

Result<std::unique_ptr<Proxy>> Proxy::create(EventLoop& loop, Log& log, Settings settings) {
  // The constructor is private: make_unique cannot reach it.
  std::unique_ptr<Proxy> proxy(new Proxy(loop, log, std::move(settings)));
  NITRO_TRY(proxy->occupancy_, Occupancy::create());
  NITRO_TRY(proxy->bell_watch_,
            loop.watch_fd(proxy->occupancy_->bell().fd(), EPOLLIN, [own = proxy.get()](std::uint32_t) {
              own->occupancy_->bell().silence();
              own->resume();
            }));
  NITRO_TRY(proxy->resolver_, Resolver::create(loop, proxy->settings_.resolver));
  const unsigned threads = proxy->settings_.relay_threads;
  NITRO_TRY(proxy->pool_, RelayPool::create(threads, pipes_per_thread(descriptor_limit(), threads)));
  return proxy;
}

void Proxy::adopt(std::vector<Fd> listening) {
  adopted_ = std::move(listening);
}

/// Where a route listens: for a local enclave, in its folder instead of on vsock.
Endpoint Proxy::place_of(const Route& route) const {
  if (!settings_.local || route.listen.kind != Endpoint::Kind::kVsock) return route.listen;
  return Endpoint::of_unix(fmt::format("{}/port_{}", settings_.local->folder, route.listen.port));
}

unsigned Proxy::mode_of(const Route& route) const {
  return route.listen.kind == Endpoint::Kind::kVsock ? kLocalMode : route.mode;
}

Result<void> Proxy::check(const Route& route) const {
  const bool to_vsock = route.connect && route.connect->kind == Endpoint::Kind::kVsock;
  if (settings_.local && to_vsock && route.connect->cid != settings_.local->cid) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("route {}: with --local only the CID of that enclave, {}, can be reached, not {}",
                            quote(route.name), settings_.local->cid, route.connect->text()));
  }
  return {};
}

Result<void> Proxy::apply(std::vector<Route> routes) {
  for (const Route& route : routes) NITRO_CHECK(check(route));
  NITRO_TRY(auto listening, listen_for(routes));
  std::map<std::string, std::unique_ptr<Served>> fresh;
  std::vector<std::string> untouched;
  for (Route& route : routes) {
    const std::string name = route.name;
    const std::string where = place_of(route).text();
    const auto old = served_.find(name);
    const auto old_socket = listening_.find(where);
    const bool same_socket = old_socket != listening_.end() && old_socket->second == listening.at(where);
    if (same_socket && old != served_.end() && *old->second->route == route) {
      untouched.push_back(name);
      continue;
    }
    auto served = serve(std::move(route), *listening.at(where));
    if (!served) return fail_within(fmt::format("route {}", quote(name)), std::move(served).error());
    fresh.emplace(name, std::move(*served));
  }
  for (const std::string& name : untouched) fresh.emplace(name, std::move(served_.at(name)));
  served_ = std::move(fresh);
  listening_ = std::move(listening);
  adopted_.clear();
  const std::uint64_t by_descriptors = clients_by_descriptors(settings_.relay_threads, listening_.size());
  max_clients_ = settings_.max_connections == 0 ? by_descriptors
                                                : std::min<std::uint64_t>(settings_.max_connections, by_descriptors);
  return {};
}

/// The sockets for these routes: those that there are, adopted ones, and new ones.
Result<std::map<std::string, Proxy::Listening>> Proxy::listen_for(const std::vector<Route>& routes) {
  std::map<std::string, Listening> sockets;
  std::vector<const Route*> blocked;
  std::optional<Error> failure;
  const auto listen = [&](const Route& route) -> Result<void> {
    const Endpoint place = place_of(route);
    auto listener = listen_on(place, mode_of(route));
    if (!listener) return fail_within(fmt::format("route {}", quote(route.name)), std::move(listener).error());
    sockets[place.text()] = std::make_shared<Listener>(std::move(*listener));
    return {};
  };
  for (const Route& route : routes) {
    const Endpoint place = place_of(route);
    if (const auto old = listening_.find(place.text()); old != listening_.end()) {
      sockets[place.text()] = old->second;
      continue;
    }
    const auto adopted = std::find_if(adopted_.begin(), adopted_.end(),
                                      [&place](const Fd& socket) { return listens_at(socket.get(), place); });
    if (adopted != adopted_.end()) {
      NITRO_CHECK(set_nonblocking(adopted->get(), true));
      sockets[place.text()] = std::make_shared<Listener>(Listener{.socket = std::move(*adopted), .path = SocketPath()});
      continue;
    }
    if (auto listened = listen(route); listened) {
      continue;
    } else if (listened.error().system_errno() == EADDRINUSE) {
      blocked.push_back(&route);
      failure = std::move(listened).error();
    } else {
      return Failure(std::move(listened).error());
    }
  }
  if (blocked.empty()) return sockets;
  // A route may be blocked by one that goes: tcp:0.0.0.0:80 becomes tcp:127.0.0.1:80. Those that go make room, and come
  // back if it was not because of them.
  std::vector<Served*> gone;
  for (const auto& [name, served] : served_) {
    if (!sockets.contains(place_of(*served->route).text())) gone.push_back(served.get());
  }
  for (Served* served : gone) {
    served->gate->close();
    served->socket.reset();
    listening_.erase(place_of(*served->route).text());
  }
  bool all = !gone.empty();
  for (const Route* route : blocked) all = all && listen(*route).has_value();
  if (all) return sockets;
  sockets.clear();
  for (Served* served : gone) {
    const Endpoint place = place_of(*served->route);
    auto listener = listen_on(place, mode_of(*served->route));
    auto again =
        listener ? serve(*served->route, *listener) : Result<std::unique_ptr<Served>>(Failure(listener.error()));
    if (!again) {
      SPDLOG_LOGGER_ERROR(&*log_, "route {} is lost: {}", quote(served->route->name), again.error().message());
      continue;
    }
    listening_[place.text()] = std::make_shared<Listener>(std::move(*listener));
    served_[(*again)->route->name] = std::move(*again);
  }
  return Failure(std::move(*failure));
}

Result<std::unique_ptr<Proxy::Served>> Proxy::serve(Route route, const Listener& listener) {
  auto served = std::make_unique<Served>();
  served->route = std::make_shared<const Route>(std::move(route));
  served->counters = counters_.of_route(served->route->name);
  served->clients = std::make_shared<std::atomic<std::uint64_t>>(0);
  // A descriptor of its own: an epoll instance watches a descriptor once, and the gate of an earlier route may still
  // watch the same socket.
  served->socket = Fd(::fcntl(listener.socket.get(), F_DUPFD_CLOEXEC, 0));
  if (!served->socket) return fail_errno(ErrorCode::kSocket, "duplicating a listening socket");
  served->gate = std::make_unique<AcceptGate>(loop_);
  Served& own = *served;
  served->gate->on_failure([this, &own](const Error& error) {
    own.counters->refuse(Refusal::kDescriptors);
    limited_log_.error("accept", fmt::format("route {}: no client can be accepted for now: {}", quote(own.route->name),
                                             error.message()));
  });
  NITRO_CHECK(served->gate->watch(served->socket.get(), [this, &own](Fd client) { accept(own, std::move(client)); }));
  return served;
}

bool Proxy::admits(const Route& route, const std::optional<SocketAddress>& client) const {
  if (!route.cids.empty()) {
    const auto cid = settings_.local ? settings_.local->cid : client ? client->cid() : std::nullopt;
    return cid && std::find(route.cids.begin(), route.cids.end(), *cid) != route.cids.end();
  }
  if (!route.clients.empty()) {
    const auto address = client ? client->ip() : std::nullopt;
    return address && std::any_of(route.clients.begin(), route.clients.end(),
                                  [&address](const AddressBlock& block) { return block.contains(*address); });
  }
  return true;
}

void Proxy::accept(Served& served, Fd client) {
  const auto address = SocketAddress::peer_of(client.get());
  const bool by_local = settings_.local && served.route->listen.kind == Endpoint::Kind::kVsock;
  const auto cid = by_local ? std::optional(settings_.local->cid) : address ? address->cid() : std::nullopt;
  const std::string name = by_local  ? fmt::format("vsock:{}", *cid)
                           : address ? address->text()
                                     : "a client that is gone";
  SPDLOG_LOGGER_INFO(&*log_, "Accepted connection on {}", name);
  if (!admits(*served.route, address)) {
    served.counters->refuse(Refusal::kClient);
    limited_log_.error(served.route->name + "/client",
                       fmt::format("{}: the client {} is not allowed; see \"{}\" of the route", served.route->name,
                                   name, served.route->cids.empty() ? "clients" : "cids"));
    reset_on_close(client.get());
    return;
  }
  tune_connection(client.get());
  auto place = std::make_shared<Occupancy::Place>(occupancy_, served.clients);
  const auto at = openings_.insert(openings_.end(), nullptr);
  *at = std::make_unique<Opening>(
      loop_, *resolver_, settings_.local ? &*settings_.local : nullptr, served.route, std::move(client), name,
      [this, at, place, cid, name, route = served.route,
       counters = served.counters](tl::expected<Opening::Opened, Opening::Refused> result) {
        // Kept until the end of this function, which the opening itself calls.
        const auto opening = std::move(*at);
        openings_.erase(at);
        if (result) return opened(route, *counters, cid, name, place, std::move(*result));
        counters->refuse(result.error().reason);
        limited_log_.error(fmt::format("{}/{}", route->name, name_of(result.error().reason)), result.error().message);
      });
  Opening& opening = **at;
  place.reset();
  opening.start();
  hold_if_full(served);
}

void Proxy::opened(const std::shared_ptr<const Route>& route, RouteCounters& counters, std::optional<std::uint32_t> cid,
                   const std::string& client_name, std::shared_ptr<Occupancy::Place> place, Opening::Opened opened) {
  SPDLOG_LOGGER_INFO(&*log_, "Connected client from {} to {}", client_name, opened.server_name);
  counters.connect_times().add(opened.connect_time);
  const auto client = counters.of_client(cid);
  ++client->total;
  ++client->open;
  pool_->add(
      {.client = std::move(opened.client),
       .server = std::move(opened.server),
       .from_client = std::move(opened.from_client),
       .idle_time = route->idle_time,
       .traffic = std::shared_ptr<Traffic>(client, &client->traffic),
       .on_end = [client, client_name, log = log_, place = std::move(place)](RelayEnd end) {
         --client->open;
         const char* how = end == RelayEnd::kReset ? " (reset)" : end == RelayEnd::kIdle ? " (idle for too long)" : "";
         SPDLOG_LOGGER_INFO(&*log, "Client on {} disconnected{}", client_name, how);
       }});
}

bool Proxy::is_full(const Served& served) const {
  const std::uint32_t of_route = served.route->max_connections;
  return occupancy_->taken() >= max_clients_ || (of_route > 0 && *served.clients >= of_route);
}

void Proxy::hold_if_full(Served& served) {
  if (!is_full(served)) return;
  if (occupancy_->taken() >= max_clients_) {
    limited_log_.error(
        "full",
        fmt::format("{} clients are connected, as many as {} allows; more of them wait", occupancy_->taken(),
                    max_clients_ == settings_.max_connections ? "--max-connections" : "the limit of open files"));
  }
  for (const auto& [name, other] : served_) {
    if (other->held || !is_full(*other)) continue;
    other->held = true;
    other->gate->hold();
  }
  occupancy_->wait();
  // Places may have been given back before wait().
  resume();
}

void Proxy::resume() {
  bool waiting = false;
  for (const auto& [name, served] : served_) {
    if (!served->held) continue;
    if (is_full(*served)) {
      waiting = true;
    } else {
      served->held = false;
      served->gate->resume();
    }
  }
  if (waiting) occupancy_->wait();
}

void Proxy::stop_listening() {
  served_.clear();
  listening_.clear();
}

std::string Proxy::status() const {
  return fmt::format("{} route{}, {} connection{}", served_.size(), served_.size() == 1 ? "" : "s", clients(),
                     clients() == 1 ? "" : "s");
}

}  // namespace nitro::proxy
