// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/config/address_block.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>

#include "src/base/number.h"

namespace nitro::proxy {
namespace {

bool same_prefix(const std::array<std::uint8_t, 16>& a, const std::array<std::uint8_t, 16>& b, unsigned bits) {
  const unsigned whole = bits / 8;
  if (!std::equal(a.begin(), a.begin() + whole, b.begin())) return false;
  const unsigned rest = bits % 8;
  if (rest == 0) return true;
  const unsigned mask = 0xFFU << (8 - rest);
  return (a.at(whole) & mask) == (b.at(whole) & mask);
}

}  // namespace

IpAddress::IpAddress(const in_addr& address) {
  std::memcpy(bytes_.data(), &address, sizeof address);
}

IpAddress::IpAddress(const in6_addr& address) {
  if (IN6_IS_ADDR_V4MAPPED(&address)) {
    std::copy(&address.s6_addr[12], &address.s6_addr[16], bytes_.begin());
  } else {
    v4_ = false;
    std::memcpy(bytes_.data(), &address, sizeof address);
  }
}

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
  const std::string terminated(text);
  if (terminated.find('\0') != std::string::npos) return std::nullopt;
  in_addr v4{};
  if (::inet_pton(AF_INET, terminated.c_str(), &v4) == 1) return IpAddress(v4);
  in6_addr v6{};
  if (::inet_pton(AF_INET6, terminated.c_str(), &v6) == 1) return IpAddress(v6);
  return std::nullopt;
}

in_addr IpAddress::v4() const {
  in_addr address{};
  std::memcpy(&address, bytes_.data(), sizeof address);
  return address;
}

in6_addr IpAddress::v6() const {
  in6_addr address{};
  std::memcpy(&address, bytes_.data(), sizeof address);
  return address;
}

std::string IpAddress::text() const {
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  ::inet_ntop(v4_ ? AF_INET : AF_INET6, bytes_.data(), buffer.data(), buffer.size());
  return buffer.data();
}

bool IpAddress::is_local() const {
  if (v4_) {
    // 0/8, 127/8, 169.254/16, 224/4 and above (RFC 6890).
    return bytes_[0] == 0 || bytes_[0] == 127 || (bytes_[0] == 169 && bytes_[1] == 254) || bytes_[0] >= 224;
  }
  const auto embedded = [this](std::size_t at) {
    IpAddress inner;
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(at), 4, inner.bytes_.begin());
    return inner;
  };
  const auto begins_with = [this](const char* block) { return AddressBlock::parse(block)->contains(*this); };
  // ::/96 holds the unspecified and the loopback address, and addresses that embed IPv4 (RFC 4291, section 2.5.5.1).
  if (begins_with("::/96") || begins_with("fe80::/10") || begins_with("ff00::/8")) return true;
  // The metadata service and the time and name servers of EC2 have unique local addresses in this block.
  if (begins_with("fd00:ec2::/32")) return true;
  if (begins_with("64:ff9b::/96")) return embedded(12).is_local();  // NAT64 (RFC 6052)
  if (begins_with("2002::/16")) return embedded(2).is_local();      // 6to4 (RFC 3056)
  return false;
}

std::optional<AddressBlock> AddressBlock::parse(std::string_view text) {
  const std::size_t slash = text.find('/');
  const auto address = IpAddress::parse(text.substr(0, slash));
  if (!address) return std::nullopt;
  AddressBlock block;
  block.first_ = *address;
  block.prefix_ = address->bits();
  if (slash != std::string_view::npos) {
    const auto prefix = parse_number<unsigned>(text.substr(slash + 1));
    if (!prefix || *prefix > address->bits()) return std::nullopt;
    block.prefix_ = *prefix;
    // "::ffff:0:0/96" would have become 0.0.0.0/96.
    IpAddress masked = *address;
    for (unsigned bit = block.prefix_; bit < address->bits(); ++bit) {
      if ((masked.bytes_.at(bit / 8) & (0x80U >> (bit % 8))) != 0) return std::nullopt;
    }
  }
  return block;
}

bool AddressBlock::contains(const IpAddress& address) const {
  return address.v4_ == first_.v4_ && same_prefix(address.bytes_, first_.bytes_, prefix_);
}

}  // namespace nitro::proxy
