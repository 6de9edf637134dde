// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/config/host_pattern.h"

#include <algorithm>

#include "src/base/text.h"
#include "vsock_proxy/config/address_block.h"

namespace nitro::proxy {
namespace {

constexpr std::size_t kMaxName = 253;
constexpr std::size_t kMaxLabel = 63;

bool is_label_character(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

/// Whether inet_aton(3) and browsers would take the label for a number.
bool is_number(std::string_view label) {
  if (label.starts_with("0x")) return true;
  return std::all_of(label.begin(), label.end(), [](char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::optional<std::string> normalized_host(std::string_view text) {
  if (const auto address = IpAddress::parse(text)) return address->text();
  std::string name = to_lower(text);
  if (name.ends_with('.')) name.pop_back();
  if (name.empty() || name.size() > kMaxName) return std::nullopt;
  std::string_view label;
  for (std::size_t at = 0; at <= name.size(); at += label.size() + 1) {
    label = std::string_view(name).substr(at);
    label = label.substr(0, label.find('.'));
    if (label.empty() || label.size() > kMaxLabel || !std::all_of(label.begin(), label.end(), is_label_character)) {
      return std::nullopt;
    }
  }
  if (is_number(label)) return std::nullopt;
  return name;
}

std::optional<HostPattern> HostPattern::parse(std::string_view text) {
  HostPattern pattern;
  if (text == "*") {
    pattern.text_ = "*";
    return pattern;
  }
  const bool below = text.starts_with("*.");
  const auto host = normalized_host(below ? text.substr(2) : text);
  if (!host || (below && IpAddress::parse(*host))) return std::nullopt;
  pattern.text_ = below ? "*." + *host : *host;
  return pattern;
}

bool HostPattern::matches(std::string_view host) const {
  if (text_ == "*" || text_ == host) return true;
  // ".DOMAIN", so at least one character is before it.
  if (!text_.starts_with("*.") || IpAddress::parse(host)) return false;
  const std::string_view ending = std::string_view(text_).substr(1);
  return host.size() > ending.size() && host.ends_with(ending);
}

}  // namespace nitro::proxy
