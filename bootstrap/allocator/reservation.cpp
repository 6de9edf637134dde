// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/allocator/reservation.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "src/base/cpu_list.h"
#include "src/base/memory_size.h"

namespace nitro::allocator {
namespace {

/// How often memory is compacted and pages are asked for again.
constexpr int kAttempts = 3;

Failure cancelled() {
  return fail(ErrorCode::kFileOperation, "cancelled");
}

/// Makes a node's pages of one size as many as `total`, compacting memory when there are too few. Returns how many
/// there are then.
Result<std::uint64_t> ask_for_pages(const HugePages& pages, std::uint64_t total, unsigned node, Kernel& kernel) {
  NITRO_TRY(std::uint64_t count, kernel.set_pages(pages, total));
  for (int attempt = 1; attempt < kAttempts && count < total; ++attempt) {
    kernel.compact_memory(node);
    NITRO_TRY(count, kernel.set_pages(pages, total));
  }
  return count;
}

/// Gets the pages of one plan on its node.
class PageReservation {
 public:
  PageReservation(const Plan& plan, const Node& node, bool required, Kernel& kernel, const Progress& progress)
      : plan_(plan), node_(node), required_(required), kernel_(kernel), progress_(progress) {}

  /// Errors: kInsufficientMemoryAvailable; those of Kernel; kFileOperation when cancelled.
  Result<std::vector<Pages>> get(std::uint64_t& missing_bytes) {
    // What is free may be of a size that is not wanted, so it is given back first.
    for (const HugePages& pages : node_.pages) {
      if (progress_.is_cancelled()) return cancelled();
      NITRO_CHECK(kernel_.set_pages(pages, pages.used()));
    }
    std::vector<Pages> got;
    for (const PlannedPages& wanted : plan_.pages) {
      if (progress_.is_cancelled()) return cancelled();
      // The larger pages that there were not, in pages of this size.
      const std::uint64_t chosen = wanted.chosen + missing_bytes / wanted.size_bytes;
      missing_bytes %= wanted.size_bytes;
      const std::uint64_t count = wanted.fixed + chosen;
      if (count == 0) continue;
      NITRO_TRY(const std::uint64_t there, grow(*node_.pages_of(wanted.size_bytes), count));
      if (there < wanted.fixed && required_) {
        return fail(ErrorCode::kInsufficientMemoryAvailable,
                    fmt::format("NUMA node {0} has {1} of the {2} huge pages of {3} that the configuration asks for; "
                                "the kernel parameters hugepagesz={3} hugepages={0}:{2} set them aside at the start",
                                node_.id, there, wanted.fixed, page_size_name(wanted.size_bytes)));
      }
      if (there > 0) got.push_back({.size_bytes = wanted.size_bytes, .count = there});
      if (there < count) missing_bytes += std::min(count - there, chosen) * wanted.size_bytes;
    }
    if (missing_bytes > 0 && required_) {
      return fail(ErrorCode::kInsufficientMemoryAvailable,
                  fmt::format("NUMA node {} has {} MiB too little memory in huge pages for the {} MiB that the "
                              "configuration asks for",
                              node_.id, MemorySize::from_bytes(missing_bytes).mib(), plan_.memory_bytes() / kMiB));
    }
    return got;
  }

 private:
  /// Returns how many of `count` pages there are, without those that others use.
  Result<std::uint64_t> grow(const HugePages& pages, std::uint64_t count) {
    NITRO_TRY(const std::uint64_t total, ask_for_pages(pages, pages.used() + count, node_.id, kernel_));
    return std::min(count, total - std::min(total, pages.used()));
  }

  const Plan& plan_;
  const Node& node_;
  bool required_;
  Kernel& kernel_;
  const Progress& progress_;
};

/// Whether the machine already is as the configuration wants it, as after a second start of the service.
std::optional<Reservation> present_reservation(const AllocatorConfig& config, const Topology& topology) {
  if (topology.cpu_pool->empty()) return std::nullopt;
  const auto asked = wanted_by(config);
  if (!asked) return std::nullopt;
  const auto& pool = *topology.cpu_pool;
  const bool has_named = std::includes(pool.begin(), pool.end(), asked->named.begin(), asked->named.end());
  const Cpu* first = topology.cpu(pool.front());
  if (first == nullptr || !has_named || pool.size() != asked->count + asked->named.size()) return std::nullopt;
  if (asked->node && *asked->node != first->node) return std::nullopt;
  const Node* node = topology.node(first->node);
  if (node == nullptr) return std::nullopt;
  const auto pages = plan_pages(config, *node);
  if (!pages) return std::nullopt;
  Reservation there{.cpus = pool, .node = node->id, .pages = {}, .was_there = true};
  if (!config.wants_memory()) return there;
  for (const PlannedPages& wanted : *pages) {
    if (node->pages_of(wanted.size_bytes)->total != wanted.count()) return std::nullopt;
    if (wanted.count() > 0) there.pages.push_back({.size_bytes = wanted.size_bytes, .count = wanted.count()});
  }
  return there;
}

Result<Reservation> reserve_one_of(const std::vector<Plan>& plans, const Topology& topology, bool required,
                                   Kernel& kernel, const Progress& progress) {
  std::optional<Error> first;
  for (const Plan& plan : plans) {
    const Node& node = *topology.node(plan.node);
    progress.say(fmt::format("Reserving {} MiB of huge pages and the CPUs {} on NUMA node {}",
                             plan.memory_bytes() / kMiB, cpu_list_of(plan.cpus), plan.node));
    Reservation done{.cpus = plan.cpus, .node = plan.node, .pages = {}, .missing_cpus = plan.missing_cpus};
    auto pages = PageReservation(plan, node, required, kernel, progress).get(done.missing_bytes);
    if (pages) {
      done.pages = std::move(*pages);
      NITRO_CHECK(kernel.set_cpu_pool(plan.cpus));
      return done;
    }
    if (pages.error().code() != ErrorCode::kInsufficientMemoryAvailable) return Failure(std::move(pages).error());
    NITRO_CHECK(restore_pages({node}, kernel));
    if (!first) first = std::move(pages).error();
  }
  return Failure(std::move(*first));
}

/// The same for CPUs only.
Result<Reservation> reserve_cpus(const Plan& plan, Kernel& kernel, const Progress& progress) {
  if (progress.is_cancelled()) return cancelled();
  progress.say(fmt::format("Reserving the CPUs {} on NUMA node {}", cpu_list_of(plan.cpus), plan.node));
  NITRO_CHECK(kernel.set_cpu_pool(plan.cpus));
  return Reservation{.cpus = plan.cpus, .node = plan.node, .pages = {}, .missing_cpus = plan.missing_cpus};
}

/// Makes a node's pages of one size as many as they were.
Result<void> restore_count(const HugePages& pages, unsigned node, Kernel& kernel) {
  NITRO_TRY(const std::uint64_t count, ask_for_pages(pages, pages.total, node, kernel));
  if (count >= pages.total) return {};
  return fail(ErrorCode::kInsufficientMemoryAvailable,
              fmt::format("of {} huge pages of {} that NUMA node {} had, {} could be restored", pages.total,
                          page_size_name(pages.size_bytes), node, count));
}

}  // namespace

Settings Settings::of(const Topology& topology) {
  return {.cpu_pool = topology.cpu_pool.value_or(std::vector<std::uint32_t>{}), .nodes = topology.nodes};
}

Result<void> restore_pages(const std::vector<Node>& nodes, Kernel& kernel) {
  Result<void> result;
  // Fewer first: what is given back may be needed for the others.
  for (const bool fewer : {true, false}) {
    NITRO_TRY(const Topology now, kernel.topology());
    for (const Node& node : nodes) {
      const Node* present = now.node(node.id);
      for (const HugePages& pages : node.pages) {
        const HugePages* has = present != nullptr ? present->pages_of(pages.size_bytes) : nullptr;
        if (has == nullptr || has->total == pages.total || (has->total > pages.total) != fewer) continue;
        auto step = restore_count(pages, node.id, kernel);
        if (result && !step) result = std::move(step);
      }
    }
  }
  return result;
}

Result<void> restore(const Settings& wanted, Kernel& kernel) {
  auto pages = restore_pages(wanted.nodes, kernel);
  NITRO_TRY(const Topology now, kernel.topology());
  if (now.cpu_pool && *now.cpu_pool != wanted.cpu_pool) NITRO_CHECK(kernel.set_cpu_pool(wanted.cpu_pool));
  return pages;
}

Result<void> release_cpus(const Topology& now, Kernel& kernel) {
  if (!now.cpu_pool || now.cpu_pool->empty()) return {};
  auto released = kernel.set_cpu_pool({});
  if (released || released.error().system_errno() != EPERM) return released;
  return Failure(Error(ErrorCode::kCpu,
                       "enclaves are running, and what is reserved for them cannot be changed meanwhile: end them "
                       "first (nitro-cli terminate-enclave --all)",
                       EPERM));
}

Result<Reservation> reserve(const AllocatorConfig& config, Kernel& kernel, const Progress& progress) {
  NITRO_TRY(const Topology before, kernel.topology());
  if (!before.cpu_pool) return fail(ErrorCode::kCpu, kernel.why_no_driver());
  if (auto there = present_reservation(config, before)) return std::move(*there);
  NITRO_CHECK(release_cpus(before, kernel));
  const auto reserve_now = [&]() -> Result<Reservation> {
    // The kernel only tells the cores of CPUs that are online.
    NITRO_TRY(const Topology topology, kernel.topology());
    NITRO_TRY(const auto plans, make_plans(config, topology));
    if (!config.wants_memory()) return reserve_cpus(plans.front(), kernel, progress);
    return reserve_one_of(plans, topology, config.required, kernel, progress);
  };
  auto reserved = reserve_now();
  if (reserved) return reserved;
  auto restored = restore(Settings::of(before), kernel);
  if (restored) return reserved;
  return fail(reserved.error().code(), fmt::format("{}; besides, not everything could be restored: {}",
                                                   reserved.error().message(), restored.error().message()));
}

}  // namespace nitro::allocator
