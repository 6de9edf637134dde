// SPDX-License-Identifier: Apache-2.0
#include "src/http/proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "src/base/text.h"
#include "src/http/url.h"

namespace nitro::http {

namespace {

// An IP address in IPv6 form; an IPv4 address is mapped (::ffff:127.0.0.1).
using Address = std::array<unsigned char, sizeof(in6_addr)>;
constexpr unsigned kAddressBits = 128;
constexpr unsigned kMappedBits = 96;

std::optional<Address> address_in(const std::string& text) {
  Address address{};
  if (::inet_pton(AF_INET6, text.c_str(), address.data()) == 1) return address;
  address[10] = address[11] = 0xff;
  if (::inet_pton(AF_INET, text.c_str(), address.data() + 12) == 1) return address;
  return std::nullopt;
}

bool same_bits(const Address& a, const Address& b, unsigned bits) {
  const auto bytes = bits / 8;
  if (!std::equal(a.begin(), a.begin() + bytes, b.begin())) return false;
  return bits % 8 == 0 || (a[bytes] ^ b[bytes]) >> (8 - bits % 8) == 0;
}

// A network such as "10.0.0.0/8".
struct Network {
  Address address;
  unsigned bits;
};

std::optional<Network> network_in(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const auto base = std::string(text.substr(0, slash));
  const auto digits = text.substr(slash + 1);
  unsigned bits = 0;
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), bits);
  const auto address = address_in(base);
  if (!address || read.ec != std::errc() || read.ptr != digits.data() + digits.size()) return std::nullopt;
  const unsigned before = base.find(':') == std::string::npos ? kMappedBits : 0;
  if (bits > kAddressBits - before) return std::nullopt;
  bits += before;
  return Network{*address, bits};
}

// Splits "example.com:8080" and "[::1]:8080"; the port is empty if there is none.
std::pair<std::string_view, std::string_view> host_and_port(std::string_view text) {
  const auto colon = text.rfind(':');
  if (text.starts_with('[')) {
    const auto end = text.find(']');
    if (end == std::string_view::npos) return {text, {}};
    return {text.substr(1, end - 1), colon == end + 1 ? text.substr(colon + 1) : std::string_view()};
  }
  if (colon == std::string_view::npos || text.find(':') != colon) return {text, {}};
  return {text.substr(0, colon), text.substr(colon + 1)};
}

// Whether an element of NO_PROXY, in lower case, matches `peer`.
bool excludes(std::string_view element, const Peer& peer) {
  if (element == "*") return true;
  const auto address = address_in(peer.host);
  if (const auto network = network_in(element); network) {
    return address && same_bits(*address, network->address, network->bits);
  }
  auto [host, port] = host_and_port(element);
  if (host.empty() || (!port.empty() && port != peer.port)) return false;
  if (const auto excluded = address_in(std::string(host)); excluded) return address == excluded;
  if (host.starts_with("*.")) host.remove_prefix(1);
  if (host.starts_with('.')) return peer.host.ends_with(host);
  return peer.host == host || peer.host.ends_with("." + std::string(host));
}

bool is_excluded(const Peer& peer, std::string_view list) {
  while (!list.empty()) {
    const auto end = std::min(list.find(','), list.size());
    const auto element = to_lower(trimmed(list.substr(0, end)));
    list.remove_prefix(std::min(end + 1, list.size()));
    if (!element.empty() && excludes(element, peer)) return true;
  }
  return false;
}

// Returns the first of `names` that is set, and its value.
std::pair<std::string, Secret> first_set(std::initializer_list<const char*> names, const Variable& variable) {
  for (const char* name : names) {
    if (Secret value(variable(name)); !value.empty()) return {name, std::move(value)};
  }
  return {};
}

const char* usual_port(std::string_view scheme) {
  return scheme == "http" ? "80" : scheme == "https" ? "443" : "1080";
}

}  // namespace

Result<std::optional<Proxy>> proxy_for(const Peer& peer, const Variable& variable, ErrorCode failure) {
  using Found = std::optional<Proxy>;
  if (is_loopback(peer.host)) return Found();
  const bool plain = peer.scheme == "http";
  auto [name, value] =
      plain ? first_set({"HTTP_PROXY", "http_proxy"}, variable) : first_set({"HTTPS_PROXY", "https_proxy"}, variable);
  if (plain && !value.empty() && !variable("REQUEST_METHOD").empty()) {
    return fail(failure, "the variable " + name +
                             " is not followed where REQUEST_METHOD is set, as it may come from a visitor of a web "
                             "server; unset one of them");
  }
  if (value.empty()) std::tie(name, value) = first_set({"ALL_PROXY", "all_proxy"}, variable);
  if (value.empty() || is_excluded(peer, first_set({"NO_PROXY", "no_proxy"}, variable).second.text())) return Found();

  const bool has_scheme = value.text().find("://") != std::string::npos;
  const Secret text(has_scheme ? value.text() : "http://" + value.text());
  const auto url = Url::parse(text.text(), CURLU_NON_SUPPORT_SCHEME);
  const auto scheme = url ? to_lower(url->part(CURLUPART_SCHEME)) : std::string();
  constexpr std::array<std::string_view, 6> kSchemes{"http", "https", "socks4", "socks4a", "socks5", "socks5h"};
  if (std::find(kSchemes.begin(), kSchemes.end(), scheme) == kSchemes.end()) {
    return fail(failure, "the variable " + name +
                             " does not name a valid proxy; it must be a URL such as "
                             "http://proxy.example.com:3128");
  }
  auto port = url->part(CURLUPART_PORT);
  if (port.empty()) port = usual_port(scheme);
  return Found(Proxy{scheme + "://" + url->part(CURLUPART_HOST) + ":" + port, name,
                     url->part(CURLUPART_USER, CURLU_URLDECODE),
                     Secret(url->part(CURLUPART_PASSWORD, CURLU_URLDECODE))});
}

}  // namespace nitro::http
