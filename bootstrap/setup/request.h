// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bootstrap/allocator/config.h"
#include "bootstrap/allocator/topology.h"
#include "bootstrap/setup/options.h"

namespace nitro::setup {

/// What the allocator is to set aside. Memory alone is for the CPUs that are set aside already: it has to be on their
/// NUMA node. Errors: kCpu when there are none.
Result<allocator::AllocatorConfig> request_of(const Resources& resources, const allocator::Topology& now);

}  // namespace nitro::setup
