// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "vsock_proxy/relay/relay_loop.h"

/// What the proxy counts. The relaying threads only touch the atomic counters of ClientCounters; everything else
/// belongs to the main thread.
namespace nitro::proxy {

/// Why a client got no connection.
enum class Refusal {
  kClient,       ///< its CID or address is not allowed
  kRequest,      ///< it sent no valid HTTP CONNECT, or not in time
  kHost,         ///< the host or port it asked for is not allowed
  kAddress,      ///< the host has no allowed address
  kResolve,      ///< the host's name could not be resolved
  kConnect,      ///< the server could not be reached
  kDescriptors,  ///< this process or the system has no more descriptors or memory
};
inline constexpr std::size_t kRefusals = 7;
/// The reason's name in metrics: "client".
[[nodiscard]] std::string_view name_of(Refusal refusal);

/// The connections of one client, or of all clients that have no CID.
struct ClientCounters {
  Traffic traffic;
  std::atomic<std::uint64_t> open{0};
  std::atomic<std::uint64_t> total{0};
};

/// Time to connect to servers, names included.
struct ConnectTimes {
  /// Upper bounds in seconds; the last bucket has none.
  static constexpr std::array<double, 12> kBounds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5};
  std::array<std::uint64_t, kBounds.size() + 1> buckets{};
  double sum_seconds = 0;
  void add(std::chrono::nanoseconds time);
};

class RouteCounters {
 public:
  /// CIDs that are counted apart; further ones are counted together.
  static constexpr std::size_t kMaxCids = 1024;

  [[nodiscard]] std::shared_ptr<ClientCounters> of_client(std::optional<std::uint32_t> cid);
  void refuse(Refusal refusal) { ++refused_.at(static_cast<std::size_t>(refusal)); }
  ConnectTimes& connect_times() { return connect_times_; }
  [[nodiscard]] std::uint64_t open() const;

 private:
  friend class Counters;
  std::map<std::string, std::shared_ptr<ClientCounters>> clients_;  // by CID, "" without one
  std::array<std::uint64_t, kRefusals> refused_{};
  ConnectTimes connect_times_;
};

class Counters {
 public:
  /// The counters of the route with this name; a route that comes back goes on with its old ones.
  [[nodiscard]] std::shared_ptr<RouteCounters> of_route(const std::string& name);

  /// All counters as Prometheus text (exposition format 0.0.4).
  [[nodiscard]] std::string prometheus() const;
  /// The sums in one line, for the log.
  [[nodiscard]] std::string summary() const;

 private:
  std::map<std::string, std::shared_ptr<RouteCounters>> routes_;
};

}  // namespace nitro::proxy
