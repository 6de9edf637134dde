// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bootstrap/allocator/topology.h"
#include "nitro/result.h"
#include "src/base/driver_absence.h"
#include "src/base/kernel_files.h"

namespace nitro::allocator {

/// What the kernel and the driver do on request. Tests derive from it, as no file can refuse a page.
class Kernel {
 public:
  explicit Kernel(KernelFiles files) : files_(std::move(files)) {}
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;
  virtual ~Kernel() = default;

  [[nodiscard]] Result<Topology> topology() const { return Topology::read(files_); }
  /// Why there is no pool of CPUs, and what to do about it.
  [[nodiscard]] std::string why_no_driver() const { return nitro::why_no_driver(files_); }

  /// Gives these CPUs to enclaves, and those that they own now back to the machine. Errors: kCpu; EPERM is in the error
  /// while enclaves run, EINVAL for CPUs that the driver does not take.
  [[nodiscard]] virtual Result<void> set_cpu_pool(const std::vector<std::uint32_t>& cpus);

  /// Asks for `total` pages and returns how many there are then: fewer if memory is used up or fragmented, more if some
  /// are in use. Errors: kFileOperation.
  [[nodiscard]] virtual Result<std::uint64_t> set_pages(const HugePages& pages, std::uint64_t total);

  /// Moves used memory together, so that there is more in one piece. What it cannot do does no harm.
  virtual void compact_memory(unsigned node);

 private:
  KernelFiles files_;
};

}  // namespace nitro::allocator
