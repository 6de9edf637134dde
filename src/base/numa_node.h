// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "src/base/kernel_files.h"

namespace nitro {

/// More nodes than any kernel is built for (arch/x86/Kconfig, NODES_SHIFT is 10 at most).
inline constexpr unsigned kMostNumaNodes = 1024;

/// Returns the NUMA node of a CPU, online or not; nullopt if the kernel does not tell. CPUs that are offline are in no
/// node's list, but each keeps the link to its node.
[[nodiscard]] std::optional<unsigned> numa_node_of_cpu(std::uint32_t id, const KernelFiles& files);

}  // namespace nitro
