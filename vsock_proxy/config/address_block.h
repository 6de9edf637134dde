// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <netinet/in.h>

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nitro::proxy {

/// An IPv4 or IPv6 address. An IPv4-mapped IPv6 address (::ffff:a.b.c.d) becomes the IPv4 address that it reaches, so
/// no rule can be evaded by writing an address differently.
class IpAddress {
 public:
  /// 0.0.0.0.
  IpAddress() = default;
  explicit IpAddress(const in_addr& address);
  explicit IpAddress(const in6_addr& address);
  /// The usual forms of inet_pton(3): "10.0.0.1", "2001:db8::1"; without brackets, zone or port.
  [[nodiscard]] static std::optional<IpAddress> parse(std::string_view text);

  [[nodiscard]] bool is_v4() const { return v4_; }
  [[nodiscard]] in_addr v4() const;   ///< requires is_v4()
  [[nodiscard]] in6_addr v6() const;  ///< requires !is_v4()
  [[nodiscard]] std::string text() const;
  /// Whether this address leads to this machine or its closest surroundings instead of to a service on the network:
  /// unspecified, loopback, link-local (where instance metadata is), multicast, broadcast; also when it is embedded in
  /// an IPv6 address (NAT64, 6to4).
  [[nodiscard]] bool is_local() const;

  auto operator<=>(const IpAddress&) const = default;

 private:
  friend class AddressBlock;
  [[nodiscard]] unsigned bits() const { return v4_ ? 32 : 128; }

  bool v4_ = true;
  std::array<std::uint8_t, 16> bytes_{};  // an IPv4 address in the first four
};

/// A CIDR block, "10.0.0.0/8", or a single address.
class AddressBlock {
 public:
  /// Returns nullopt if `text` is neither, or if bits after the prefix are set: "10.1.2.3/8" is more likely a mistake
  /// than a block.
  [[nodiscard]] static std::optional<AddressBlock> parse(std::string_view text);
  [[nodiscard]] bool contains(const IpAddress& address) const;
  auto operator<=>(const AddressBlock&) const = default;

 private:
  IpAddress first_;
  unsigned prefix_ = 0;
};

}  // namespace nitro::proxy
