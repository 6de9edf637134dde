// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/forwarding.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>

#include "enclave_proc/machine/vsock_address.h"
#include "src/base/bytes.h"
#include "vsock_proxy/config/host_pattern.h"
#include "vsock_proxy/names/resolver.h"

namespace nitro::proxy {
namespace {

Result<Resolver::Addresses> resolve_now(EventLoop& loop, Resolver& resolver, const std::string& host, Family family) {
  std::optional<Result<Resolver::Addresses>> answer;
  const auto query =
      resolver.resolve(host, family, [&answer](const Result<Resolver::Addresses>& result) { answer = result; });
  while (!answer) NITRO_CHECK(loop.run_once(std::chrono::milliseconds(-1)));
  return std::move(*answer);
}

Result<std::string> host_of(const std::string& text, const AskRegion& ask_region) {
  NITRO_TRY(const std::string name, with_region(text, ask_region));
  if (const auto host = normalized_host(name)) return *host;
  const bool is_number =
      !name.empty() && std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (is_number) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{} is not a host but looks like a CID; REMOTE_ADDR is the server that enclaves want to "
                            "reach, and the proxy serves all enclaves of this machine",
                            quote(name)));
  }
  return fail(ErrorCode::kInvalidArgument, fmt::format("{} is neither a host name nor an IP address", quote(name)));
}

/// Looks at the entries in their order.
Result<bool> is_allowed(const AllowedService& service, Family family, const Allowlist& allowlist, Log& log) {
  NITRO_TRY(const auto loop, EventLoop::create());
  NITRO_TRY(const auto resolver, Resolver::create(*loop, {}));
  NITRO_TRY(const auto addresses, resolve_now(*loop, *resolver, service.address, family));
  for (const AllowedService& entry : allowlist.services) {
    if (entry.port != service.port) continue;
    const auto host = normalized_host(entry.address);
    if (!host) continue;
    if (*host == service.address) {
      SPDLOG_LOGGER_INFO(&*log, "Matched with host name {} and port \"{}\"", quote(*host), entry.port);
      return true;
    }
    const auto allowed = resolve_now(*loop, *resolver, *host, family);
    if (!allowed) continue;
    if (std::find(allowed->begin(), allowed->end(), addresses.front()) != allowed->end()) {
      SPDLOG_LOGGER_INFO(&*log, "Matched with host IP \"{}\" and port \"{}\"", addresses.front().text(), entry.port);
      return true;
    }
  }
  return false;
}

}  // namespace

Result<std::variant<Route, AllowedService>> allowed_route(const ForwardedService& service, const AskRegion& ask_region,
                                                          Log& log) {
  NITRO_TRY(const std::string host, host_of(service.remote_host, ask_region));
  SPDLOG_LOGGER_INFO(&*log, "Checking allowlist configuration");
  NITRO_TRY(const Allowlist allowlist, load_allowlist(service.allowlist));
  const AllowedService wanted{.address = host, .port = service.remote_port};
  auto allowed = is_allowed(wanted, service.family, allowlist, log);
  if (!allowed) return fail_within("checking the allowlist", std::move(allowed).error());
  if (!*allowed && allowlist.fault) return Failure(*allowlist.fault);
  if (!*allowed) return wanted;
  Route route;
  route.name = fmt::format("{}:{}", host, service.remote_port);
  // Like the AWS tool, not on every CID of this machine.
  route.listen = Endpoint::of_vsock(proc::kParentCid, service.local_port);
  route.connect = Endpoint::of_tcp(host, service.remote_port);
  route.family = service.family;
  return route;
}

}  // namespace nitro::proxy
