// SPDX-License-Identifier: Apache-2.0
// A routes file of vsock-proxy: routes that keep what they promise, or an error that names the file.
#include "fuzz.h"
#include "vsock_proxy/config/routes.h"

using nitro::fuzz::require;
using nitro::proxy::Endpoint;
using nitro::proxy::IpAddress;
using nitro::proxy::Side;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(nitro::as_text(std::as_bytes(std::span(data, size))));
  const auto region = []() -> nitro::Result<std::string> { return "eu-central-1"; };
  const auto routes = nitro::proxy::parse_routes(text, "f", region);
  if (!routes) {
    require(routes.error().code() == nitro::ErrorCode::kInvalidArgument);
    require(routes.error().message().starts_with("f:"));
    return 0;
  }
  for (const auto& route : *routes) {
    require(nitro::proxy::parse_endpoint(route.listen.text(), Side::kListen) == route.listen);
    require(!route.name.empty() && route.connect.has_value() == route.http_connect.empty());
    if (route.connect) require(nitro::proxy::parse_endpoint(route.connect->text(), Side::kConnect) == *route.connect);
    for (const auto& rule : route.http_connect) {
      require(nitro::proxy::HostPattern::parse(rule.host.text()) == rule.host && !rule.ports.empty());
    }
    // Nothing that a client names reaches this machine's surroundings by default.
    if (!route.connect && route.addresses.empty()) {
      require(!route.may_reach(*IpAddress::parse("127.0.0.1")) &&
              !route.may_reach(*IpAddress::parse("169.254.169.254")));
    }
  }
  return 0;
}
