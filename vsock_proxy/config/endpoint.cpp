// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/config/endpoint.h"

#include <fmt/format.h>
#include <sys/un.h>

#include "src/base/bytes.h"
#include "src/base/number.h"
#include "vsock_proxy/config/address_block.h"
#include "vsock_proxy/config/host_pattern.h"

namespace nitro::proxy {
namespace {

constexpr ErrorCode kCode = ErrorCode::kInvalidArgument;

std::optional<std::uint32_t> number(std::string_view text, std::uint32_t min, std::uint32_t max) {
  const auto value = parse_number<std::uint32_t>(text);
  return value && *value >= min && *value <= max ? value : std::nullopt;
}

Result<Endpoint> parse_vsock(std::string_view rest, Side side) {
  const std::size_t colon = rest.find(':');
  Endpoint endpoint;
  if (colon != std::string_view::npos) {
    endpoint.cid = number(rest.substr(0, colon), 0, kMaxCid);
    if (!endpoint.cid) {
      return fail(kCode, fmt::format("{} is not a CID, a number up to {}", quote(rest.substr(0, colon)), kMaxCid));
    }
  } else if (side == Side::kConnect) {
    return fail(kCode, "a vsock endpoint to connect to needs a CID: vsock:CID:PORT");
  }
  const std::string_view port = rest.substr(colon == std::string_view::npos ? 0 : colon + 1);
  const auto value = number(port, 0, kMaxVsockPort);
  if (!value) return fail(kCode, fmt::format("{} is not a vsock port, a number up to {}", quote(port), kMaxVsockPort));
  endpoint.port = *value;
  return endpoint;
}

Result<Endpoint> parse_tcp(std::string_view rest, Side side) {
  const std::size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos) return fail(kCode, "the port is missing: tcp:HOST:PORT");
  const std::string_view host = rest.substr(0, colon);
  const std::string_view port = rest.substr(colon + 1);
  Endpoint endpoint;
  endpoint.kind = Endpoint::Kind::kTcp;
  const bool bracketed = host.starts_with('[') && host.ends_with(']') && host.size() > 2;
  if (bracketed) {
    const auto address = IpAddress::parse(host.substr(1, host.size() - 2));
    if (!address) return fail(kCode, fmt::format("{} is not an IPv6 address in brackets", quote(host)));
    endpoint.host = address->text();
  } else if (host.find(':') != std::string_view::npos) {
    return fail(kCode, fmt::format("an IPv6 address is written in brackets: tcp:[{}]:{}", host, port));
  } else if (const auto normal = normalized_host(host)) {
    endpoint.host = *normal;
  } else {
    return fail(kCode, fmt::format("{} is neither a host name nor an IP address", quote(host)));
  }
  if (side == Side::kListen && !IpAddress::parse(endpoint.host)) {
    return fail(kCode, fmt::format("listening needs an IP address of this machine, not the name {}; 127.0.0.1 is only "
                                   "reachable from this machine, 0.0.0.0 from everywhere",
                                   quote(endpoint.host)));
  }
  const auto value = number(port, 1, kMaxTcpPort);
  if (!value) return fail(kCode, fmt::format("{} is not a TCP port, a number from 1 to {}", quote(port), kMaxTcpPort));
  endpoint.port = *value;
  return endpoint;
}

Result<Endpoint> parse_unix(std::string_view path) {
  if (!path.starts_with('/')) return fail(kCode, fmt::format("{} is not an absolute path", quote(path)));
  if (path.size() >= sizeof(sockaddr_un::sun_path)) {
    return fail(kCode, fmt::format("{} is longer than {} bytes, the limit for a socket's path", quote(path),
                                   sizeof(sockaddr_un::sun_path) - 1));
  }
  return Endpoint::of_unix(std::string(path));
}

}  // namespace

Endpoint Endpoint::of_vsock(std::optional<std::uint32_t> cid, std::uint32_t port) {
  Endpoint endpoint;
  endpoint.cid = cid;
  endpoint.port = port;
  return endpoint;
}

Endpoint Endpoint::of_tcp(std::string host, std::uint16_t port) {
  Endpoint endpoint;
  endpoint.kind = Kind::kTcp;
  endpoint.host = std::move(host);
  endpoint.port = port;
  return endpoint;
}

Endpoint Endpoint::of_unix(std::string path) {
  Endpoint endpoint;
  endpoint.kind = Kind::kUnix;
  endpoint.path = std::move(path);
  return endpoint;
}

std::string Endpoint::text() const {
  switch (kind) {
    case Kind::kVsock:
      return cid ? fmt::format("vsock:{}:{}", *cid, port) : fmt::format("vsock:{}", port);
    case Kind::kTcp:
      return host.find(':') == std::string::npos ? fmt::format("tcp:{}:{}", host, port)
                                                 : fmt::format("tcp:[{}]:{}", host, port);
    case Kind::kUnix:
      break;
  }
  return "unix:" + path;
}

Result<Endpoint> parse_endpoint(std::string_view text, Side side) {
  if (text.starts_with("vsock:")) return parse_vsock(text.substr(6), side);
  if (text.starts_with("tcp:")) return parse_tcp(text.substr(4), side);
  if (text.starts_with("unix:")) return parse_unix(text.substr(5));
  const char* forms = side == Side::kListen ? "vsock:PORT, vsock:CID:PORT, tcp:ADDRESS:PORT or unix:/PATH"
                                            : "tcp:HOST:PORT, vsock:CID:PORT or unix:/PATH";
  return fail(kCode, fmt::format("{} is not an endpoint: {}", quote(text), forms));
}

}  // namespace nitro::proxy
