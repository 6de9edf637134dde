// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

/// Dates and times as RFC 3339 writes them.
namespace nitro {

/// The last second of the year 9999, the last that RFC 3339 can write.
inline constexpr std::int64_t kLastRfc3339Second = 253402300799;

/// `seconds` since 1970 (0 to kLastRfc3339Second) and `nanoseconds` (0 to 999999999) in UTC:
/// "2024-05-06T07:08:09+00:00", with 0, 3, 6 or 9 decimals, as many as needed.
[[nodiscard]] std::string rfc3339(std::time_t seconds, long nanoseconds = 0);

/// Seconds since 1970 of "2024-05-06T07:08:09.123456+00:00" or "2024-05-06 07:08:09Z"; the fraction is dropped. Nothing
/// when `text` is no date and time of RFC 3339.
[[nodiscard]] std::optional<std::time_t> parse_rfc3339(std::string_view text);

}  // namespace nitro
