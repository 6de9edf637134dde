// SPDX-License-Identifier: Apache-2.0
#include "src/base/bytes.h"

#include <fmt/format.h>

#include "src/base/utf8.h"

namespace nitro {

std::string to_hex(std::span<const std::byte> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const std::byte byte : bytes) {
    text += kDigits[std::to_integer<std::size_t>(byte >> 4)];
    text += kDigits[std::to_integer<std::size_t>(byte & std::byte{0x0f})];
  }
  return text;
}

std::string quote(std::string_view text) {
  std::string marked;
  for (const char c : text) {
    if (c == '"' || c == '\\') marked += '\\';
    marked += c;
  }
  return '"' + escaped(marked) + '"';
}

std::string printable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint next = code_point_at(text, at);
    if (next.valid && !is_control(next.value)) {
      result += text.substr(at, next.size);
    } else {
      result += '?';
    }
    at += next.size;
  }
  return result;
}

}  // namespace nitro
