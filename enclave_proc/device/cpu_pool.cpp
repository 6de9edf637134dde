// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/device/cpu_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "enclave_proc/device/device.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/cpu_list.h"

namespace nitro::proc {
namespace {

/// A kernel list is at most one page; the driver's own buffer has 512 bytes (ne_misc_dev.c, NE_CPUS_SIZE).
constexpr std::size_t kListLimitBytes = 4096;

}  // namespace

Result<CpuPool> CpuPool::read(const KernelFiles& files) {
  auto text = read_text_file(files.cpu_pool(), kListLimitBytes);
  if (!text) {
    Error error = std::move(text).error();
    if (error.system_errno() != ENOENT) return Failure(std::move(error));
    return Failure(
        Error(error.code(), fmt::format("{}: {}", error.message(), why_no_device(files)), error.system_errno()));
  }
  auto pool = parse(*text);
  if (!pool) return fail_within(fmt::format("reading {}", quote(files.cpu_pool())), std::move(pool).error());
  return pool;
}

Result<CpuPool> CpuPool::parse(std::string_view text) {
  CpuPool pool;
  NITRO_TRY(pool.ids_, parse_cpu_list(text));
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
