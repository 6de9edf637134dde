// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace nitro {

/// One character of a text, or a byte that is not part of one.
struct CodePoint {
  char32_t value = 0;    ///< meaningful when valid
  std::size_t size = 1;  ///< in bytes; 1 when not valid
  bool valid = false;    ///< shortest form, no surrogate, at most U+10FFFF (RFC 3629)
};

/// Returns the code point at offset `at` of `text`; `at` is less than its size.
[[nodiscard]] CodePoint code_point_at(std::string_view text, std::size_t at);

/// Whether a character controls the terminal or the text direction instead of being shown: C0, DEL and C1 controls,
/// bidirectional controls, and line and paragraph separators.
[[nodiscard]] bool is_control(char32_t value);

/// Returns `text` with controls and invalid UTF-8 escaped, as \x0a and \u{202e}; unlike quote(), without quotes.
[[nodiscard]] std::string escaped(std::string_view text);

/// Whether a text is UTF-8 without controls.
[[nodiscard]] bool is_plain_text(std::string_view text);

}  // namespace nitro
