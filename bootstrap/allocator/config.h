// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nitro/result.h"

namespace nitro::allocator {

/// Huge pages of one size.
struct Pages {
  std::uint64_t size_bytes = 0;
  std::uint64_t count = 0;
};

/// What is set aside for one enclave, or for several that share it.
struct PoolRequest {
  std::uint64_t memory_bytes = 0;   ///< 0 if `pages` says it, or if only CPUs are wanted
  std::vector<Pages> pages;         ///< empty: the sizes are chosen for memory_bytes
  std::uint32_t cpu_count = 0;      ///< 0 if `cpus` names them
  std::vector<std::uint32_t> cpus;  ///< in the file's order; each once
  std::optional<unsigned> numa_node;
};

/// The file /etc/nitro_enclaves/allocator.yaml. The AWS tool's file is one pool:
///
///     memory_mib: 512
///     cpu_count: 2        # or cpu_pool: 2,3,6-9
///
/// Added here: `numa_node`; `pages: {2M: 100, 1G: 1}` instead of `memory_mib`; `pools`, a list of mappings of these
/// keys, instead of one pool; and `required: false`, with which less than what is asked for is no error.
struct AllocatorConfig {
  std::vector<PoolRequest> pools;  ///< at least one
  bool required = true;
  /// What the one who wrote it calls the two kinds to ask for CPUs; for messages.
  std::string_view count_name = "cpu_count";
  std::string_view cpus_name = "cpu_pool";

  /// If no pool wants memory, huge pages stay as they are. A file always asks for some.
  [[nodiscard]] bool wants_memory() const;
};

/// More memory than any machine has; bounds what can be asked for.
inline constexpr std::uint64_t kMostMemoryMib = std::uint64_t{1} << 26;

/// Errors: kFileOperation; kInvalidArgument, with file, line, key and the right form.
Result<AllocatorConfig> load_allocator_config(const std::string& path);
Result<AllocatorConfig> parse_allocator_config(const std::string& text, const std::string& name);

}  // namespace nitro::allocator
