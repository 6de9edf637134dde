// SPDX-License-Identifier: Apache-2.0
#include "src/base/memory_size.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

#include "src/base/bytes.h"

namespace nitro {

Result<MemorySize> MemorySize::parse(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::invalid_argument) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{} is not an amount of memory; give MiB, or a number with M, G or T", quote(text)));
  }
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  std::uint64_t mib_per_unit = 0;
  if (unit.empty() || unit == "M" || unit == "m") mib_per_unit = 1;
  if (unit == "G" || unit == "g") mib_per_unit = 1024;
  if (unit == "T" || unit == "t") mib_per_unit = std::uint64_t{1024} * 1024;
  if (mib_per_unit == 0) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("{} has the unknown unit {}; use M, G or T", quote(text), quote(unit)));
  }
  if (error == std::errc::result_out_of_range ||
      number > std::numeric_limits<std::uint64_t>::max() / kMiB / mib_per_unit) {
    return fail(ErrorCode::kInvalidArgument, fmt::format("{} is more memory than 64 bits can address", quote(text)));
  }
  return MemorySize(number * mib_per_unit);
}

}  // namespace nitro
