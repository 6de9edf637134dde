// SPDX-License-Identifier: Apache-2.0
#include "src/base/utf8.h"

#include <fmt/format.h>

#include <cstdint>

namespace nitro {

CodePoint code_point_at(std::string_view text, std::size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) return {.value = lead, .size = 1, .valid = true};
  // Lead bytes from 0x80 to 0xc1 are continuation bytes or begin an overlong form; those from 0xf5 on exceed U+10FFFF.
  if (lead < 0xc2 || lead > 0xf4) return {};
  const std::size_t size = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (text.size() - at < size) return {};
  char32_t value = lead & (0x7fU >> size);
  for (const char c : text.substr(at + 1, size - 1)) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xc0U) != 0x80) return {};
    value = value << 6 | (byte & 0x3fU);
  }
  const bool has_shorter_form = (size == 3 && value < 0x800) || (size == 4 && value < 0x10000);
  const bool is_surrogate = value >= 0xd800 && value <= 0xdfff;
  if (has_shorter_form || is_surrogate || value > 0x10ffff) return {};
  return {.value = value, .size = size, .valid = true};
}

bool is_control(char32_t value) {
  if (value < 0x20 || (value >= 0x7f && value <= 0x9f)) return true;
  // Unicode, Bidi_Control, and the two separators.
  if (value == 0x061c || value == 0x200e || value == 0x200f) return true;
  return (value >= 0x2028 && value <= 0x202e) || (value >= 0x2066 && value <= 0x2069);
}

std::string escaped(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint next = code_point_at(text, at);
    const std::string_view bytes = text.substr(at, next.size);
    if (next.valid && !is_control(next.value)) {
      result += bytes;
    } else if (next.valid && next.value >= 0x80) {
      result += fmt::format("\\u{{{:x}}}", static_cast<std::uint32_t>(next.value));
    } else {
      result += fmt::format("\\x{:02x}", static_cast<unsigned char>(bytes.front()));
    }
    at += next.size;
  }
  return result;
}

bool is_plain_text(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint next = code_point_at(text, at);
    if (!next.valid || is_control(next.value)) return false;
    at += next.size;
  }
  return true;
}

}  // namespace nitro
