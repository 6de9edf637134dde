// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>

/// Dates and times in the form of RFC 3339.
namespace nitro {

/// The last second of the year 9999, the last that RFC 3339 can express.
inline constexpr std::int64_t kLastRfc3339Second = 253402300799;

/// Formats `seconds` since 1970 (0 to kLastRfc3339Second) and `nanoseconds` (0 to 999999999) in UTC:
/// "2024-05-06T07:08:09+00:00", with 0, 3, 6 or 9 decimals as needed.
[[nodiscard]] std::string rfc3339(std::time_t seconds, long nanoseconds = 0);

/// Returns the seconds since 1970 for "2024-05-06T07:08:09.123456+00:00" or "2024-05-06 07:08:09Z", dropping the
/// fraction, or nullopt if `text` is not an RFC 3339 date and time.
[[nodiscard]] std::optional<std::time_t> parse_rfc3339(std::string_view text);

}  // namespace nitro
