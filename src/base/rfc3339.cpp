// SPDX-License-Identifier: Apache-2.0
#include "src/base/rfc3339.h"

#include <fmt/format.h>

#include <array>
#include <chrono>

namespace nitro {
namespace {

/// Parses texts of a fixed form from the front.
class FormReader {
 public:
  explicit FormReader(std::string_view text) : rest_(text) {}

  [[nodiscard]] bool at_end() const { return rest_.empty(); }
  /// Takes one of `characters`; returns it, or 0.
  char take(std::string_view characters) {
    if (rest_.empty() || characters.find(rest_.front()) == std::string_view::npos) return 0;
    const char taken = rest_.front();
    rest_.remove_prefix(1);
    return taken;
  }
  /// Takes a number of `digits` digits, at most `most`.
  std::optional<int> number(std::size_t digits, int most) {
    int value = 0;
    for (std::size_t i = 0; i < digits; ++i) {
      if (i == rest_.size() || rest_[i] < '0' || rest_[i] > '9') return std::nullopt;
      value = value * 10 + (rest_[i] - '0');
    }
    rest_.remove_prefix(digits);
    return value <= most ? std::optional(value) : std::nullopt;
  }

 private:
  std::string_view rest_;
};

std::optional<std::chrono::sys_days> read_date(FormReader& text) {
  const auto year = text.number(4, 9999);
  if (!year || text.take("-") == 0) return std::nullopt;
  const auto month = text.number(2, 12);
  if (!month || text.take("-") == 0) return std::nullopt;
  const auto day = text.number(2, 31);
  if (!day) return std::nullopt;
  const std::chrono::year_month_day date(std::chrono::year(*year), std::chrono::month(static_cast<unsigned>(*month)),
                                         std::chrono::day(static_cast<unsigned>(*day)));
  return date.ok() ? std::optional(std::chrono::sys_days(date)) : std::nullopt;
}

// "07:08"
std::optional<std::chrono::minutes> read_hours_and_minutes(FormReader& text) {
  const auto hours = text.number(2, 23);
  if (!hours || text.take(":") == 0) return std::nullopt;
  const auto minutes = text.number(2, 59);
  if (!minutes) return std::nullopt;
  return std::chrono::hours(*hours) + std::chrono::minutes(*minutes);
}

std::optional<std::chrono::seconds> read_time_of_day(FormReader& text) {
  const auto minutes = read_hours_and_minutes(text);
  if (!minutes || text.take(":") == 0) return std::nullopt;
  const auto seconds = text.number(2, 60);  // 60 is for leap seconds
  if (!seconds) return std::nullopt;
  if (text.take(".") != 0) {
    if (!text.number(1, 9)) return std::nullopt;
    while (text.number(1, 9)) continue;
  }
  return *minutes + std::chrono::seconds(*seconds);
}

std::optional<std::chrono::minutes> read_offset(FormReader& text) {
  if (text.take("Zz") != 0) return std::chrono::minutes(0);
  const char sign = text.take("+-");
  if (sign == 0) return std::nullopt;
  const auto offset = read_hours_and_minutes(text);
  if (!offset) return std::nullopt;
  return sign == '-' ? -*offset : *offset;
}

}  // namespace

std::string rfc3339(std::time_t seconds, long nanoseconds) {
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  std::array<char, 64> text{};
  std::string result(text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%S", &utc));
  if (nanoseconds % 1000 != 0) {
    result += fmt::format(".{:09}", nanoseconds);
  } else if (nanoseconds % 1000000 != 0) {
    result += fmt::format(".{:06}", nanoseconds / 1000);
  } else if (nanoseconds != 0) {
    result += fmt::format(".{:03}", nanoseconds / 1000000);
  }
  return result + "+00:00";
}

std::optional<std::time_t> parse_rfc3339(std::string_view text) {
  FormReader reader(text);
  const auto date = read_date(reader);
  if (!date || reader.take("Tt ") == 0) return std::nullopt;
  const auto time = read_time_of_day(reader);
  if (!time) return std::nullopt;
  const auto offset = read_offset(reader);
  if (!offset || !reader.at_end()) return std::nullopt;
  // Not system_clock, whose nanoseconds only cover the years 1677 to 2262.
  return std::time_t{(*date + *time - *offset).time_since_epoch().count()};
}

}  // namespace nitro
