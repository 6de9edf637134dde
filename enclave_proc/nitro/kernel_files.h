// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace nitro::proc {

/// Where the kernel shows the driver. `root` is put in front of every path: empty on a real machine, a made-up tree in
/// tests.
struct KernelFiles {
  std::string root{};
  [[nodiscard]] std::string device() const { return root + "/dev/nitro_enclaves"; }
  /// The CPUs that were taken from this machine for enclaves, as "1-3,5" (ne_misc_dev.c, parameter ne_cpus).
  [[nodiscard]] std::string cpu_pool() const { return root + "/sys/module/nitro_enclaves/parameters/ne_cpus"; }
};

}  // namespace nitro::proc
