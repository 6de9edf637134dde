// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nitro {

/// `text` with the letters A to Z in lower case.
[[nodiscard]] std::string to_lower(std::string_view text);

/// `text` without the characters of `blanks` at its ends.
[[nodiscard]] std::string_view trimmed(std::string_view text, std::string_view blanks = " \t\r\n\v\f");

/// A number of bytes in MiB with one decimal, rounded down: "12.5".
[[nodiscard]] std::string in_mib(std::uint64_t bytes);

}  // namespace nitro
