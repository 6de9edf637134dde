// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "bootstrap/allocator/config.h"
#include "bootstrap/allocator/kernel.h"
#include "bootstrap/allocator/plan.h"

namespace nitro::allocator {

/// The settings of a machine that a reservation changes.
struct Settings {
  std::vector<std::uint32_t> cpu_pool;
  std::vector<Node> nodes;  ///< with their totals of pages

  static Settings of(const Topology& topology);
};

/// Gives the nodes the pages that they had. Does what it can, also after a failure, and returns the first one. Errors:
/// those of Kernel; kInsufficientMemoryAvailable if the kernel has fewer pages now.
Result<void> restore_pages(const std::vector<Node>& nodes, Kernel& kernel);
/// The same, then the CPUs.
Result<void> restore(const Settings& wanted, Kernel& kernel);

/// Gives the CPUs of enclaves back to the machine. Errors: kCpu; EPERM is in the error while enclaves run.
Result<void> release_cpus(const Topology& now, Kernel& kernel);

struct Reservation {
  std::vector<std::uint32_t> cpus;
  unsigned node = 0;
  std::vector<Pages> pages;         ///< those of the pools, largest first; of each size at least one
  std::uint64_t missing_bytes = 0;  ///< only if the configuration allows less than it asks for
  std::uint32_t missing_cpus = 0;   ///< the same
  bool was_there = false;           ///< nothing had to be changed
};

struct Progress {
  /// Says what happens.
  std::function<void(const std::string&)> say = [](const std::string&) {};
  /// Says what did not work and is no failure.
  std::function<void(const std::string&)> warn = [](const std::string&) {};
  /// Asked between the steps; if it returns true, everything is restored.
  std::function<bool()> is_cancelled = [] { return false; };
};

/// Sets aside what `config` asks for; see AllocatorConfig::wants_memory(). If any step fails, every setting is as
/// before.
///
/// Errors: kCpu when the driver is not loaded, or refuses, as it does while enclaves run; those of make_plans();
/// kInsufficientMemoryAvailable; kFileOperation when cancelled.
Result<Reservation> reserve(const AllocatorConfig& config, Kernel& kernel, const Progress& progress);

}  // namespace nitro::allocator
