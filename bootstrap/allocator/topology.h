// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nitro/result.h"
#include "src/base/kernel_files.h"

namespace nitro::allocator {

struct Cpu {
  std::uint32_t id = 0;
  unsigned node = 0;
  bool online = false;
  /// The threads of its core, itself included, ascending. The kernel does not tell those of a CPU that is offline: then
  /// it is empty.
  std::vector<std::uint32_t> core;
};

/// The huge pages of one size on one node.
struct HugePages {
  std::uint64_t size_bytes = 0;
  std::uint64_t total = 0;
  std::uint64_t free = 0;
  std::string folder;  ///< of the kernel's files for them

  [[nodiscard]] std::uint64_t used() const { return total - free; }
};

struct Node {
  unsigned id = 0;
  std::vector<HugePages> pages;    ///< largest first
  std::uint64_t memory_bytes = 0;  ///< all that it has; 0 if the kernel does not tell

  /// nullptr if there are none of this size.
  [[nodiscard]] const HugePages* pages_of(std::uint64_t size_bytes) const;
};

/// What a machine has, as the kernel describes it at this moment.
struct Topology {
  std::vector<Cpu> cpus;    ///< ascending
  std::vector<Node> nodes;  ///< ascending; one, 0, where the kernel knows none
  /// The CPUs that belong to enclaves. Nothing if the driver is not loaded.
  std::optional<std::vector<std::uint32_t>> cpu_pool;

  /// Errors: kFileOperation, kMalformedCpuId, kCpu.
  static Result<Topology> read(const KernelFiles& files);

  /// nullptr if there is none.
  [[nodiscard]] const Cpu* cpu(std::uint32_t id) const;
  [[nodiscard]] const Node* node(unsigned id) const;
};

/// How many huge pages the folder's size has. Errors: kFileOperation.
Result<std::uint64_t> read_page_count(const std::string& folder);

}  // namespace nitro::allocator
