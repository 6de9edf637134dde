// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace nitro::proc {

/// Where the kernel shows the driver and the CPUs. `root` is put in front of every path: empty on a real machine, a
/// made-up tree in tests.
struct KernelFiles {
  std::string root{};
  [[nodiscard]] std::string device() const { return root + "/dev/nitro_enclaves"; }
  /// The CPUs that were taken from this machine for enclaves, as "1-3,5" (ne_misc_dev.c, parameter ne_cpus).
  [[nodiscard]] std::string cpu_pool() const { return root + "/sys/module/nitro_enclaves/parameters/ne_cpus"; }
  /// The NUMA nodes of this machine, as "0-1".
  [[nodiscard]] std::string online_nodes() const { return root + "/sys/devices/system/node/online"; }
  /// A folder with, among others, a link "nodeN" to the CPU's NUMA node, whether the CPU is online or not.
  [[nodiscard]] std::string cpu(std::uint32_t id) const {
    return root + "/sys/devices/system/cpu/cpu" + std::to_string(id);
  }
};

}  // namespace nitro::proc
