// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "enclave_proc/machine/machine.h"

namespace nitro::proc {
namespace {

/// The driver refuses less (Linux, drivers/virt/nitro_enclaves/ne_misc_dev.h, NE_MIN_ENCLAVE_MEM_SIZE).
constexpr MemorySize kMinimumMemory = MemorySize::from_mib(64);
/// The image is copied into the enclave's memory and unpacked there.
constexpr std::uint64_t kMemoryPerImage = 4;

}  // namespace

Result<void> check_cpus(const RunRequest& request) {
  const auto* count = std::get_if<std::uint32_t>(&request.cpus);
  const bool none = count != nullptr ? *count == 0 : std::get<std::vector<std::uint32_t>>(request.cpus).empty();
  if (!none) return {};
  return fail(ErrorCode::kIoctl, "an enclave needs at least one CPU, but none was requested");
}

Result<void> check_memory_for_image(MemorySize memory, std::uint64_t eif_bytes) {
  const std::uint64_t most = std::numeric_limits<std::uint64_t>::max() / kMemoryPerImage;
  const MemorySize needed =
      std::max(kMinimumMemory, MemorySize::from_bytes(std::min(eif_bytes, most) * kMemoryPerImage));
  if (memory >= needed) return {};
  return fail(ErrorCode::kInsufficientMemoryRequested,
              fmt::format("{} MiB were requested, but this image needs at least {} MiB", memory.mib(), needed.mib()));
}

}  // namespace nitro::proc
