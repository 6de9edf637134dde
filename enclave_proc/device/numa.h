// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "enclave_proc/device/cpu_pool.h"
#include "src/base/kernel_files.h"

namespace nitro::proc {

/// Returns the NUMA node that all enclave memory must come from: that of the pool's CPUs. The driver accepts a pool of
/// one node only, and refuses memory of any other (ne_misc_dev.c, ne_setup_cpu_pool,
/// ne_sanity_check_user_mem_region_page). Returns nullopt on a machine with one node, where there is no choice, and
/// where the kernel does not report the node.
[[nodiscard]] std::optional<unsigned> numa_node_of(const CpuPool& pool, const KernelFiles& files);

/// Populates the mapping `page`, one untouched huge page, with memory of `node`. Returns false when the node has none
/// left. Where processes may not choose nodes, as in some containers, does nothing and returns true: the driver then
/// checks whatever page the kernel chooses.
[[nodiscard]] bool find_page_on(unsigned node, std::span<std::byte> page);

}  // namespace nitro::proc
