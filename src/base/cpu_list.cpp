// SPDX-License-Identifier: Apache-2.0
#include "src/base/cpu_list.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "src/base/bytes.h"
#include "src/base/number.h"

namespace nitro {
namespace {

bool is_blank(unsigned char c) {
  return std::isspace(c) != 0;
}

Result<std::uint32_t> parse_id(std::string_view text) {
  std::string digits(text);
  std::erase_if(digits, is_blank);
  const auto id = parse_number<std::uint32_t>(digits);
  if (!id || *id >= kMostCpus)
    return fail(ErrorCode::kMalformedCpuId, fmt::format("{} is not the number of a CPU", quote(text)));
  return *id;
}

Result<void> append_range(std::string_view text, std::vector<std::uint32_t>& ids) {
  const std::size_t dash = text.find('-');
  const std::string_view last = dash == std::string_view::npos ? text : text.substr(dash + 1);
  if (last.find('-') != std::string_view::npos)
    return fail(ErrorCode::kCpu, fmt::format("{} is not a range of CPUs", quote(text)));
  NITRO_TRY(const std::uint32_t from, parse_id(text.substr(0, dash)));
  NITRO_TRY(const std::uint32_t to, parse_id(last));
  if (from > to) return fail(ErrorCode::kCpu, fmt::format("the range of CPUs {} ends before it begins", quote(text)));
  if (to - from >= kMostCpus - ids.size()) return fail(ErrorCode::kCpu, "the list names more CPUs than there can be");
  for (std::uint32_t id = from; id <= to; ++id) ids.push_back(id);
  return {};
}

}  // namespace

Result<std::vector<std::uint32_t>> parse_cpu_list(std::string_view text) {
  std::vector<std::uint32_t> ids;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (std::all_of(line.begin(), line.end(), is_blank)) continue;
    while (true) {
      const std::size_t comma = line.find(',');
      NITRO_CHECK(append_range(line.substr(0, comma), ids));
      if (comma == std::string_view::npos) break;
      line.remove_prefix(comma + 1);
    }
  }
  return ids;
}

std::string cpu_list_of(std::vector<std::uint32_t> ids) {
  std::sort(ids.begin(), ids.end());
  std::string list;
  for (std::size_t i = 0; i < ids.size();) {
    std::size_t end = i + 1;
    while (end < ids.size() && ids[end] <= ids[end - 1] + 1) ++end;
    if (!list.empty()) list += ',';
    list += std::to_string(ids[i]);
    if (ids[end - 1] > ids[i]) list += fmt::format("-{}", ids[end - 1]);
    i = end;
  }
  return list;
}

}  // namespace nitro
