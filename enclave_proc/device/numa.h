// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "enclave_proc/device/cpu_pool.h"
#include "enclave_proc/device/kernel_files.h"

namespace nitro::proc {

/// The NUMA node that the memory of every enclave has to be of: that of the pool's CPUs. The driver takes a pool of one
/// node only, and refuses memory of any other (ne_misc_dev.c, ne_setup_cpu_pool, ne_sanity_check_user_mem_region_page).
/// Nothing where there is no choice, on a machine with one node, and where the kernel does not tell.
[[nodiscard]] std::optional<unsigned> numa_node_of(const CpuPool& pool, const KernelFiles& files);

/// Gives the mapping `page` its page now, from `node` and no other. `page`: one huge page that nobody has touched.
/// False when the node has none. Where processes may not choose nodes, as in some containers, nothing is done and the
/// answer is true: the driver sees what the kernel chooses.
[[nodiscard]] bool find_page_on(unsigned node, std::span<std::byte> page);

}  // namespace nitro::proc
