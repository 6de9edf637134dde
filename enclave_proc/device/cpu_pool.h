// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "enclave_proc/device/kernel_files.h"
#include "enclave_proc/machine/machine.h"

namespace nitro::proc {

/// The CPUs that the administrator set aside for enclaves, those that running enclaves have included: the driver knows
/// which are free and does not tell.
class CpuPool {
 public:
  /// Errors: kFileOperation when the driver is not loaded, and those of parse().
  static Result<CpuPool> read(const KernelFiles& files);
  /// The kernel's list format: "1-3,5", an empty list is an empty pool. Errors: kMalformedCpuId, kCpu.
  static Result<CpuPool> parse(std::string_view text);

  /// What can be told before the driver is asked: that named CPUs are in the pool, each named once, or that the pool
  /// has as many as are asked for. Errors: kInvalidCpuConfiguration, kNoSuchCpuInPool, kInsufficientCpus, and kIoctl
  /// when none is asked for.
  [[nodiscard]] Result<void> check(const RunRequest& request) const;

  [[nodiscard]] const std::vector<std::uint32_t>& ids() const { return ids_; }

 private:
  [[nodiscard]] Result<void> check_ids(std::vector<std::uint32_t> wanted) const;

  std::vector<std::uint32_t> ids_;  // in the order of the list
};

}  // namespace nitro::proc
