// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/allocator/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "src/base/cpu_list.h"
#include "src/base/memory_size.h"

namespace nitro::allocator {
namespace {

/// The driver takes memory in multiples of it (ne_misc_dev.c, NE_MIN_MEM_REGION_SIZE).
constexpr std::uint64_t kSmallestUsablePage = 2 * kMiB;

std::string sizes_of(const Node& node) {
  std::vector<std::string> names;
  for (const HugePages& pages : node.pages) names.push_back(page_size_name(pages.size_bytes));
  return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

Result<void> add_pages(const PoolRequest& pool, const Node& node, std::vector<PlannedPages>& plan) {
  for (const Pages& wanted : pool.pages) {
    const auto found = std::find_if(plan.begin(), plan.end(),
                                    [&](const PlannedPages& has) { return has.size_bytes == wanted.size_bytes; });
    if (found == plan.end()) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("enclaves cannot use huge pages of {} on this machine, whose sizes are: {}",
                              page_size_name(wanted.size_bytes), sizes_of(node)));
    }
    found->fixed += wanted.count;
  }
  if (pool.memory_bytes == 0) return {};
  if (plan.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("enclaves need huge pages of 2M or a multiple of it; this machine's sizes are: {}",
                            sizes_of(node)));
  }
  const std::uint64_t smallest = plan.back().size_bytes;
  std::uint64_t missing = (pool.memory_bytes + smallest - 1) / smallest * smallest;
  for (PlannedPages& pages : plan) {
    pages.chosen += missing / pages.size_bytes;
    missing %= pages.size_bytes;
  }
  return {};
}

/// Chooses CPUs and pages on one node.
class Planner {
 public:
  Planner(const AllocatorConfig& config, const Wanted& wanted, const Topology& topology, const Node& node)
      : config_(config), wanted_(wanted), topology_(topology), node_(node) {}

  Result<Plan> plan() {
    Plan plan;
    plan.node = node_.id;
    plan.cpus.assign(wanted_.named.begin(), wanted_.named.end());
    NITRO_CHECK(add_cores(plan));
    std::sort(plan.cpus.begin(), plan.cpus.end());
    NITRO_TRY(plan.pages, plan_pages(config_, node_));
    // The kernel would try, and take what every other program needs.
    if (config_.required && node_.memory_bytes > 0 && plan.memory_bytes() > node_.memory_bytes) {
      return fail(ErrorCode::kInsufficientMemoryAvailable,
                  fmt::format("NUMA node {} has {} MiB of memory in all, and {} MiB are asked for", node_.id,
                              node_.memory_bytes / kMiB, plan.memory_bytes() / kMiB));
    }
    return plan;
  }

 private:
  /// The cores of the node that can be given away as a whole, by their first thread.
  [[nodiscard]] std::vector<std::vector<std::uint32_t>> free_cores() const {
    std::vector<std::vector<std::uint32_t>> cores;
    for (const Cpu& cpu : topology_.cpus) {
      const bool is_first = !cpu.core.empty() && cpu.core.front() == cpu.id;
      if (cpu.node != node_.id || !is_first || cpu.id == 0) continue;
      const bool is_taken = std::any_of(cpu.core.begin(), cpu.core.end(), [this](std::uint32_t id) {
        const Cpu* thread = topology_.cpu(id);
        return thread == nullptr || !thread->online || wanted_.named.contains(id);
      });
      if (!is_taken) cores.push_back(cpu.core);
    }
    return cores;
  }

  Result<void> add_cores(Plan& plan) const {
    if (wanted_.count == 0) return {};
    const auto cores = free_cores();
    std::size_t available = 0;
    for (const auto& core : cores) available += core.size();
    for (const PoolRequest& pool : config_.pools) {
      const auto threads = cores.empty() ? 1 : static_cast<std::uint32_t>(cores.front().size());
      if (pool.cpu_count % threads == 0) continue;
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{} is {}, but enclaves own whole cores, which have {} threads: use {}",
                              config_.count_name, pool.cpu_count, threads, (pool.cpu_count / threads + 1) * threads));
    }
    if (available < wanted_.count && config_.required) {
      return fail(ErrorCode::kInsufficientCpus,
                  fmt::format("NUMA node {} has {} CPUs for enclaves (whole cores, without that of CPU 0), and {} are "
                              "asked for",
                              node_.id, available, wanted_.count));
    }
    std::uint32_t missing = wanted_.count;
    for (const auto& core : cores) {
      if (missing < core.size()) break;
      plan.cpus.insert(plan.cpus.end(), core.begin(), core.end());
      missing -= static_cast<std::uint32_t>(core.size());
    }
    plan.missing_cpus = missing;
    return {};
  }

  const AllocatorConfig& config_;
  const Wanted& wanted_;
  const Topology& topology_;
  const Node& node_;
};

/// Named CPUs are there, on one node, whole cores, and not CPU 0's. Returns their node.
Result<unsigned> check_named(const std::set<std::uint32_t>& named, std::string_view name, const Topology& topology) {
  const Cpu* first = nullptr;
  for (const std::uint32_t id : named) {
    const Cpu* cpu = topology.cpu(id);
    if (cpu == nullptr || !cpu->online) {
      return fail(ErrorCode::kInvalidArgument, fmt::format("{} names CPU {}, which is {}", name, id,
                                                           cpu == nullptr ? "not one of this machine" : "offline"));
    }
    if (first == nullptr) first = cpu;
    if (cpu->node != first->node) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("{} names CPU {} of NUMA node {} and CPU {} of node {}, but the driver takes the CPUs of "
                              "one node only",
                              name, first->id, first->node, id, cpu->node));
    }
    for (const std::uint32_t sibling : cpu->core) {
      if (sibling == 0) {
        return fail(
            ErrorCode::kInvalidArgument,
            fmt::format("{} names CPU {}, which shares its core with CPU 0, the one that this machine must keep", name,
                        id));
      }
      if (!named.contains(sibling)) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("{} names CPU {} without CPU {} of the same core; enclaves own whole cores", name, id,
                                sibling));
      }
    }
  }
  return first->node;
}

/// The nodes that may do, in the order in which they are tried.
Result<std::vector<const Node*>> candidates(const Wanted& wanted, std::string_view cpus_name,
                                            const Topology& topology) {
  std::optional<unsigned> only = wanted.node;
  if (!wanted.named.empty()) {
    NITRO_TRY(const unsigned node, check_named(wanted.named, cpus_name, topology));
    if (only && *only != node) {
      return fail(ErrorCode::kInvalidArgument,
                  fmt::format("the CPUs of {} are on NUMA node {}, but numa_node is {}", cpus_name, node, *only));
    }
    only = node;
  }
  std::vector<const Node*> nodes;
  for (const Node& node : topology.nodes) {
    if (!only || *only == node.id) nodes.push_back(&node);
  }
  if (nodes.empty()) {
    return fail(ErrorCode::kInvalidArgument,
                fmt::format("this machine has no NUMA node {}: its nodes are {}", only.value_or(0), [&topology] {
                  std::vector<std::uint32_t> ids;
                  for (const Node& node : topology.nodes) ids.push_back(node.id);
                  return cpu_list_of(std::move(ids));
                }()));
  }
  return nodes;
}

}  // namespace

Result<Wanted> wanted_by(const AllocatorConfig& config) {
  Wanted wanted;
  for (const PoolRequest& pool : config.pools) {
    wanted.count += pool.cpu_count;
    wanted.named.insert(pool.cpus.begin(), pool.cpus.end());
    if (!pool.numa_node) continue;
    if (wanted.node && wanted.node != pool.numa_node) {
      return fail(
          ErrorCode::kInvalidArgument,
          fmt::format("the pools are on the NUMA nodes {} and {}, but the driver takes the CPUs of one node only",
                      *wanted.node, *pool.numa_node));
    }
    wanted.node = pool.numa_node;
  }
  return wanted;
}

std::string page_size_name(std::uint64_t bytes) {
  if (bytes % kGiB == 0) return fmt::format("{}G", bytes / kGiB);
  return bytes % kMiB == 0 ? fmt::format("{}M", bytes / kMiB) : fmt::format("{}K", bytes / kKiB);
}

std::uint64_t Plan::memory_bytes() const {
  std::uint64_t sum = 0;
  for (const PlannedPages& size : pages) sum += size.count() * size.size_bytes;
  return sum;
}

Result<std::vector<PlannedPages>> plan_pages(const AllocatorConfig& config, const Node& node) {
  std::vector<PlannedPages> plan;
  for (const HugePages& pages : node.pages) {
    if (pages.size_bytes % kSmallestUsablePage == 0) plan.push_back({.size_bytes = pages.size_bytes});
  }
  for (const PoolRequest& pool : config.pools) NITRO_CHECK(add_pages(pool, node, plan));
  return plan;
}

Result<std::vector<Plan>> make_plans(const AllocatorConfig& config, const Topology& topology) {
  NITRO_TRY(const Wanted wanted, wanted_by(config));
  NITRO_TRY(const auto nodes, candidates(wanted, config.cpus_name, topology));
  std::vector<Plan> plans;
  std::optional<Error> first;
  std::string reasons;
  for (const Node* node : nodes) {
    auto plan = Planner(config, wanted, topology, *node).plan();
    if (plan) {
      plans.push_back(std::move(*plan));
      continue;
    }
    const ErrorCode code = plan.error().code();
    const bool another_may_do = code == ErrorCode::kInsufficientCpus || code == ErrorCode::kInsufficientMemoryAvailable;
    if (!another_may_do) return Failure(std::move(plan).error());
    reasons += (reasons.empty() ? "" : "; ") + plan.error().message();
    if (!first) first = std::move(plan).error();
  }
  if (plans.empty()) return fail(first->code(), reasons);
  // Where less will do, more is better.
  std::stable_sort(plans.begin(), plans.end(),
                   [](const Plan& a, const Plan& b) { return a.missing_cpus < b.missing_cpus; });
  return plans;
}

}  // namespace nitro::allocator
