// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "nitro/result.h"

namespace nitro::proxy {

/// Where a route listens or connects, as the routes file writes it:
///
///   vsock:PORT       listens on every CID of this machine
///   vsock:CID:PORT   listens on this CID, or connects to it
///   tcp:HOST:PORT    an IPv6 address in brackets, tcp:[2001:db8::1]:443
///   unix:/PATH       a stream socket in the file system
struct Endpoint {
  enum class Kind { kVsock, kTcp, kUnix };
  Kind kind = Kind::kVsock;
  std::optional<std::uint32_t> cid;  ///< of kVsock; nullopt: any
  std::uint32_t port = 0;            ///< of kVsock and kTcp
  std::string host;                  ///< of kTcp, see normalized_host(); when listening, an IP address
  std::string path;                  ///< of kUnix; absolute

  [[nodiscard]] static Endpoint of_vsock(std::optional<std::uint32_t> cid, std::uint32_t port);
  [[nodiscard]] static Endpoint of_tcp(std::string host, std::uint16_t port);
  [[nodiscard]] static Endpoint of_unix(std::string path);

  /// As it was written, with the host in its usual form.
  [[nodiscard]] std::string text() const;
  bool operator==(const Endpoint&) const = default;
};

enum class Side { kListen, kConnect };

/// Errors: kInvalidArgument; the message says what is wrong and how it is written.
Result<Endpoint> parse_endpoint(std::string_view text, Side side);

/// Highest ports: the vsock port above it means "any port" (vsock(7)).
inline constexpr std::uint32_t kMaxVsockPort = 0xFFFFFFFE;
inline constexpr std::uint32_t kMaxTcpPort = 65535;
/// The CID above it means "any CID".
inline constexpr std::uint32_t kMaxCid = 0xFFFFFFFE;

}  // namespace nitro::proxy
