// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bootstrap/allocator/config.h"
#include "bootstrap/allocator/topology.h"
#include "nitro/result.h"

namespace nitro::allocator {

/// Huge pages of one size that a plan wants.
struct PlannedPages {
  std::uint64_t size_bytes = 0;
  std::uint64_t chosen = 0;  ///< for memory_mib: smaller pages may take their place
  std::uint64_t fixed = 0;   ///< for `pages`: no others will do

  [[nodiscard]] std::uint64_t count() const { return chosen + fixed; }
};

/// What all pools together ask for, apart from memory.
struct Wanted {
  std::uint32_t count = 0;        ///< CPUs of which only the number matters
  std::set<std::uint32_t> named;  ///< CPUs
  std::optional<unsigned> node;
};
/// Errors: kInvalidArgument when pools name different nodes.
Result<Wanted> wanted_by(const AllocatorConfig& config);

/// CPUs and memory for all pools, on one node: the driver takes CPUs of one node only, and an enclave's memory from
/// that of its CPUs (ne_misc_dev.c, ne_setup_cpu_pool).
struct Plan {
  unsigned node = 0;
  std::vector<std::uint32_t> cpus;  ///< whole cores without CPU 0's, ascending
  std::vector<PlannedPages> pages;  ///< every size that the node has and enclaves can use, largest first
  std::uint32_t missing_cpus = 0;   ///< only if the configuration allows less than it asks for

  [[nodiscard]] std::uint64_t memory_bytes() const;
};

/// Returns at least one plan, the best first: the lowest node that has the CPUs. Whether the kernel finds the pages on
/// it only shows when they are asked for; then the next plan may do. CPUs that enclaves own at the moment are not free
/// for others.
///
/// Memory takes the largest pages that waste nothing; the last one, of the smallest size, may be used in part. Each
/// pool gets its own, so enclaves of these sizes fit side by side.
///
/// Errors: kInvalidArgument when the machine does not have what the configuration names; kInsufficientCpus;
/// kInsufficientMemoryAvailable for more than the nodes have in all.
Result<std::vector<Plan>> make_plans(const AllocatorConfig& config, const Topology& topology);

/// "2M", "1G".
[[nodiscard]] std::string page_size_name(std::uint64_t bytes);

/// The pages that all pools need on this node; part of make_plans(). Errors: kInvalidArgument.
Result<std::vector<PlannedPages>> plan_pages(const AllocatorConfig& config, const Node& node);

}  // namespace nitro::allocator
