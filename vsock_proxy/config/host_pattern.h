// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace nitro::proxy {

/// A host as programs name it: a DNS name in lower case without the final dot, or an IP address in its usual form.
/// Returns nullopt if `text` is neither: each label 1 to 63 letters, digits, '-' and '_', at most 253 characters
/// (RFC 1035, section 2.3.4). A name whose last label is a number (RFC 3696, section 2) is refused: "0x7f.1" and
/// "2130706433" mean 127.0.0.1 to some programs. Names outside of ASCII are written in their A-label form (xn--…).
[[nodiscard]] std::optional<std::string> normalized_host(std::string_view text);

/// The hosts that an allowlist entry stands for: one host, or "*.DOMAIN", every name below DOMAIN at any depth but not
/// DOMAIN itself, or "*", any host.
class HostPattern {
 public:
  [[nodiscard]] static std::optional<HostPattern> parse(std::string_view text);
  /// `host`: as normalized_host() returns it. A pattern with "*." does not match IP addresses.
  [[nodiscard]] bool matches(std::string_view host) const;
  [[nodiscard]] const std::string& text() const { return text_; }
  bool operator==(const HostPattern&) const = default;

 private:
  std::string text_;
};

}  // namespace nitro::proxy
