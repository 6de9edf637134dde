// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "enclave_proc/machine/machine.h"
#include "src/base/kernel_files.h"

namespace nitro::proc {

/// The CPUs that the administrator set aside for enclaves, including those in use: the driver does not report which of
/// them are free.
class CpuPool {
 public:
  /// Errors: kFileOperation when the driver is not loaded, and those of parse().
  static Result<CpuPool> read(const KernelFiles& files);
  /// Parses the kernel's list format, such as "1-3,5"; an empty list is an empty pool. Errors: kMalformedCpuId, kCpu.
  static Result<CpuPool> parse(std::string_view text);

  /// Checks what can be checked before calling the driver: each requested CPU is in the pool and named once, or the
  /// pool has as many CPUs as requested. Errors: kInvalidCpuConfiguration, kNoSuchCpuInPool, kInsufficientCpus, and
  /// kIoctl when no CPU is requested.
  [[nodiscard]] Result<void> check(const RunRequest& request) const;

  [[nodiscard]] const std::vector<std::uint32_t>& ids() const { return ids_; }

 private:
  [[nodiscard]] Result<void> check_ids(std::vector<std::uint32_t> wanted) const;

  std::vector<std::uint32_t> ids_;  // in the order of the list
};

}  // namespace nitro::proc
