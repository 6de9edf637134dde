// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/setup/request.h"

#include "src/base/memory_size.h"

namespace nitro::setup {

Result<allocator::AllocatorConfig> request_of(const Resources& resources, const allocator::Topology& now) {
  allocator::AllocatorConfig config;
  config.count_name = "-t";
  config.cpus_name = "-p";
  allocator::PoolRequest& pool = config.pools.emplace_back();
  pool.memory_bytes = resources.memory_mib.value_or(0) * kMiB;
  pool.cpu_count = resources.cpu_count;
  pool.cpus = resources.cpus;
  if (pool.cpu_count > 0 || !pool.cpus.empty()) return config;
  if (!now.cpu_pool || now.cpu_pool->empty()) {
    return fail(ErrorCode::kCpu,
                now.cpu_pool
                    ? "no CPUs are set aside for enclaves, so -m alone does not say on which NUMA node memory is "
                      "needed: set both aside, with -m and -t or -p"
                    : "the driver nitro_enclaves is not loaded: -i loads it");
  }
  pool.cpus = *now.cpu_pool;
  return config;
}

}  // namespace nitro::setup
