// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace nitro::proc {

/// Paths of the kernel files that describe the driver and the CPUs. `root` is prepended to every path: empty on a real
/// machine, a fake tree in tests.
struct KernelFiles {
  std::string root{};
  [[nodiscard]] std::string device() const { return root + "/dev/nitro_enclaves"; }
  /// The CPUs set aside for enclaves, such as "1-3,5" (ne_misc_dev.c, parameter ne_cpus).
  [[nodiscard]] std::string cpu_pool() const { return root + "/sys/module/nitro_enclaves/parameters/ne_cpus"; }
  /// The NUMA nodes of this machine, such as "0-1".
  [[nodiscard]] std::string online_nodes() const { return root + "/sys/devices/system/node/online"; }
  /// A folder that contains a link "nodeN" to the CPU's NUMA node, whether the CPU is online or not.
  [[nodiscard]] std::string cpu(std::uint32_t id) const {
    return root + "/sys/devices/system/cpu/cpu" + std::to_string(id);
  }
};

}  // namespace nitro::proc
