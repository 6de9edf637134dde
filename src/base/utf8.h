// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace nitro {

/// One character of a text, or a byte that belongs to none.
struct CodePoint {
  char32_t value = 0;    ///< meaningful when valid
  std::size_t size = 1;  ///< in bytes; 1 when not valid
  bool valid = false;    ///< shortest form, no surrogate, at most U+10FFFF (RFC 3629)
};

/// What stands at `at` (less than the size) of `text`.
[[nodiscard]] CodePoint code_point_at(std::string_view text, std::size_t at);

/// Whether a character does something to a terminal or to the order of what is shown, instead of being shown: the
/// controls C0, DEL and C1, those of bidirectional text, and the separators of lines and paragraphs.
[[nodiscard]] bool is_control(char32_t value);

/// `text` with controls and bytes that are no UTF-8 escaped, as \x0a and \u{202e}; no quotes around it, as quote() has.
[[nodiscard]] std::string escaped(std::string_view text);

/// Whether a text is UTF-8 without controls.
[[nodiscard]] bool is_plain_text(std::string_view text);

}  // namespace nitro
