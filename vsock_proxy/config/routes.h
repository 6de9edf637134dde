// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "nitro/result.h"
#include "vsock_proxy/config/address_block.h"
#include "vsock_proxy/config/endpoint.h"
#include "vsock_proxy/config/host_pattern.h"

/// The routes file of vsock-proxy, see vsock-proxy-routes(5).
namespace nitro::proxy {

enum class Family { kAny, kV4, kV6 };
[[nodiscard]] bool is_of(Family family, const IpAddress& address);

/// Servers that an HTTP CONNECT route reaches.
struct HostRule {
  HostPattern host;
  std::vector<std::uint16_t> ports;
  bool operator==(const HostRule&) const = default;
};

/// One service: where clients connect, and where their connections go.
struct Route {
  std::string name;
  Endpoint listen;
  /// Where all connections go; nullopt: each connection names its server by HTTP CONNECT, within `http_connect`.
  std::optional<Endpoint> connect;
  std::vector<HostRule> http_connect;
  std::vector<std::uint32_t> cids;      ///< of a vsock listener: allowed clients; empty: all
  std::vector<AddressBlock> clients;    ///< of a TCP listener: allowed clients; empty: all
  std::vector<AddressBlock> addresses;  ///< allowed addresses of servers; empty: see may_reach()
  Family family = Family::kAny;         ///< of servers' addresses
  std::uint32_t max_connections = 0;    ///< further clients wait in the backlog; 0: no limit
  std::chrono::seconds connect_time{10};
  std::chrono::seconds idle_time{0};  ///< ends a connection on which no byte moves; 0: never
  unsigned mode = 0600;               ///< of a Unix listener's file

  /// Whether a server's address is allowed. Without `addresses`, a route with one fixed server reaches any address; one
  /// with HTTP CONNECT reaches no local address (IpAddress::is_local), because its clients and their names decide.
  [[nodiscard]] bool may_reach(const IpAddress& address) const;
  /// Whether HTTP CONNECT to this host, as normalized_host() returns it, and port is allowed.
  [[nodiscard]] bool may_reach(std::string_view host, std::uint16_t port) const;
  bool operator==(const Route&) const = default;
};

/// Returns this instance's region, which replaces {region} in hosts.
using AskRegion = std::function<Result<std::string>()>;

/// Returns `host` with {region} replaced. Errors: those of `ask_region`, which is only called if needed.
Result<std::string> with_region(std::string host, const AskRegion& ask_region);

/// Reads a routes file. `ask_region` is called at most once, if a host contains {region}. Errors: kFileOperation when
/// the file cannot be read; kInvalidArgument for its content, with file, line and key; those of `ask_region`.
Result<std::vector<Route>> load_routes(const std::string& path, const AskRegion& ask_region);
/// Reads routes from text; `name` is the file's name in messages.
Result<std::vector<Route>> parse_routes(const std::string& text, const std::string& name, const AskRegion& ask_region);

}  // namespace nitro::proxy
