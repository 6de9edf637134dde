// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "src/base/mapping.h"
#include "src/base/memory_size.h"

namespace nitro::proc {

/// Which huge pages an enclave may have.
struct PageChoice {
  /// Of this size only, one of EnclaveMemory::page_sizes().
  std::optional<MemorySize> size{};
  /// Of this node only. They are found and cleared at once then, which takes long.
  std::optional<unsigned> numa_node{};
};

/// The memory of one enclave, in huge pages of this process. Owns the mappings, one for each page, largest first: the
/// enclave's memory is made of them in this order.
class EnclaveMemory {
 public:
  /// Asked whether to go on with what takes long.
  using GoOn = std::function<Result<void>()>;

  EnclaveMemory() = default;

  /// Takes at least `wanted`, from the free huge pages of this machine. Large pages that fit into what is wanted come
  /// first; what then remains is taken from the smallest pages that are free, so that little is wasted; pages that turn
  /// out not to be needed are given back. `go_on` is asked before each page that takes long, and its error ends all.
  /// Errors: kInsufficientMemoryAvailable, nothing is kept; kNoSuchHugepageFlag.
  static Result<EnclaveMemory> allocate(MemorySize wanted, const PageChoice& choice, const GoOn& go_on);

  /// Sizes of huge pages that are tried, largest first; a machine has only some of them.
  [[nodiscard]] static std::vector<MemorySize> page_sizes();

  /// Copies `size_bytes` of the file `fd`, from its start, to `offset_bytes` of the enclave's memory. Errors:
  /// kMemoryOverflow when they do not fit, kEifParsing when the file cannot be read or is shorter. Reading may take
  /// long: `go_on` is asked before each piece (kPieceBytes), and its error ends the copy.
  Result<void> load_image(int fd, std::uint64_t size_bytes, std::uint64_t offset_bytes, const GoOn& go_on);
  static constexpr std::uint64_t kPieceBytes = 16 * kMiB;

  [[nodiscard]] std::span<const Mapping> regions() const { return regions_; }
  [[nodiscard]] MemorySize size() const;

 private:
  std::vector<Mapping> regions_;
};

}  // namespace nitro::proc
