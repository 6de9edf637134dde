// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/device/cpu_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <string>

#include "nitro/fd.h"
#include "src/base/bytes.h"

namespace nitro::proc {
namespace {

/// A kernel list is at most one page; the driver's own buffer has 512 bytes (ne_misc_dev.c, NE_CPUS_SIZE).
constexpr std::size_t kListLimitBytes = 4096;
/// More CPUs than any kernel is built for (arch/x86/Kconfig, NR_CPUS); bounds what a list can make us store.
constexpr std::uint32_t kMostCpus = 65536;

Result<std::uint32_t> parse_id(std::string_view text) {
  std::string digits(text);
  std::erase_if(digits, [](unsigned char c) { return std::isspace(c) != 0; });
  std::uint32_t id = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
  if (error != std::errc() || end != digits.data() + digits.size() || id >= kMostCpus)
    return fail(ErrorCode::kMalformedCpuId, fmt::format("{} is not the number of a CPU", quote(text)));
  return id;
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

Result<CpuPool> CpuPool::read(const KernelFiles& files) {
  auto text = read_text_file(files.cpu_pool(), kListLimitBytes);
  if (!text) {
    Error error = std::move(text).error();
    if (error.system_errno() != ENOENT) return Failure(std::move(error));
    return Failure(Error(error.code(),
                         fmt::format("{}: this machine cannot run Nitro Enclaves, or its driver nitro_enclaves is not "
                                     "loaded; run-enclave --local runs the image in QEMU",
                                     error.message()),
                         error.system_errno()));
  }
  auto pool = parse(*text);
  if (!pool) return fail_within(fmt::format("reading {}", quote(files.cpu_pool())), std::move(pool).error());
  return pool;
}

Result<CpuPool> CpuPool::parse(std::string_view text) {
  CpuPool pool;
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const bool blank = std::all_of(line.begin(), line.end(), [](unsigned char c) { return std::isspace(c) != 0; });
    if (blank) continue;
    while (true) {
      const std::size_t comma = line.find(',');
      NITRO_CHECK(append_range(line.substr(0, comma), pool.ids_));
      if (comma == std::string_view::npos) break;
      line.remove_prefix(comma + 1);
    }
  }
  return pool;
}

Result<void> CpuPool::check(const RunRequest& request) const {
  NITRO_CHECK(check_cpus(request));
  if (const auto* ids = std::get_if<std::vector<std::uint32_t>>(&request.cpus)) return check_ids(*ids);
  const auto count = std::get<std::uint32_t>(request.cpus);
  if (count <= ids_.size()) return {};
  if (ids_.empty())
    return fail(ErrorCode::kInsufficientCpus,
                fmt::format("{} CPUs were requested, but the pool for enclaves is empty", count));
  return fail(ErrorCode::kInsufficientCpus,
              fmt::format("{} CPUs were requested, but the pool for enclaves has {}", count, ids_.size()));
}

Result<void> CpuPool::check_ids(std::vector<std::uint32_t> wanted) const {
  std::sort(wanted.begin(), wanted.end());
  if (const auto twice = std::adjacent_find(wanted.begin(), wanted.end()); twice != wanted.end())
    return fail(ErrorCode::kInvalidCpuConfiguration, fmt::format("CPU {} is named twice", *twice));
  for (const std::uint32_t id : wanted) {
    if (std::find(ids_.begin(), ids_.end(), id) == ids_.end()) {
      return fail(ErrorCode::kNoSuchCpuInPool,
                  fmt::format("CPU {} is not in the pool for enclaves, which is [{}]", id, fmt::join(ids_, ", ")));
    }
  }
  return {};
}

}  // namespace nitro::proc
