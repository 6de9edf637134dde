// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nitro {

/// Returns `text` with the letters A to Z in lower case.
[[nodiscard]] std::string to_lower(std::string_view text);

/// Returns `text` without the characters of `blanks` at its ends.
[[nodiscard]] std::string_view trimmed(std::string_view text, std::string_view blanks = " \t\r\n\v\f");

/// Whether `text` begins with the UTF-8 byte order mark. JSON must not (RFC 8259, section 8.1), and serde_json of the
/// reference and Go's parser reject it; our parser would skip it.
[[nodiscard]] bool has_byte_order_mark(std::string_view text);

/// Applies printable() to each line of `text`: a report of another program, safe for a terminal.
[[nodiscard]] std::string printable_lines(std::string_view text);

/// Formats a number of bytes in MiB with one decimal, rounded down: "12.5".
[[nodiscard]] std::string in_mib(std::uint64_t bytes);

/// A limit of so many bytes, with its unit: "64 GiB" for whole GiB, otherwise in MiB, rounded down.
[[nodiscard]] std::string limit_text(std::uint64_t bytes);

}  // namespace nitro
