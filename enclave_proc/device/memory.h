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

/// Which huge pages an enclave may use.
struct PageChoice {
  /// Pages of this size only, one of EnclaveMemory::page_sizes().
  std::optional<MemorySize> size{};
  /// Pages of this node only. Each is then found and cleared at once, which takes long.
  std::optional<unsigned> numa_node{};
};

/// The memory of one enclave, in huge pages of this process. Owns the mappings, one for each page, largest first: the
/// enclave's memory is made of them in this order.
class EnclaveMemory {
 public:
  /// Asked before each slow step whether to go on.
  using GoOn = std::function<Result<void>()>;

  EnclaveMemory() = default;

  /// Takes at least `wanted` from the free huge pages of this machine. Large pages that fit come first; the rest is
  /// taken from the smallest free pages, so that little is wasted; pages that turn out to be unnecessary are freed.
  /// `go_on` is called before each page that takes long; its error aborts the allocation. Errors:
  /// kInsufficientMemoryAvailable, with nothing kept; kNoSuchHugepageFlag.
  static Result<EnclaveMemory> allocate(MemorySize wanted, const PageChoice& choice, const GoOn& go_on);

  /// The huge page sizes that are tried, largest first; a machine has only some of them.
  [[nodiscard]] static std::vector<MemorySize> page_sizes();

  /// Copies `size_bytes` of the file `fd`, from its start, to `offset_bytes` of the enclave's memory. Reading may take
  /// long: `go_on` is called before each piece (kPieceBytes); its error aborts the copy. Errors: kMemoryOverflow when
  /// the image does not fit, kEifParsing when the file cannot be read or is shorter.
  Result<void> load_image(int fd, std::uint64_t size_bytes, std::uint64_t offset_bytes, const GoOn& go_on);
  static constexpr std::uint64_t kPieceBytes = 16 * kMiB;

  [[nodiscard]] std::span<const Mapping> regions() const { return regions_; }
  [[nodiscard]] MemorySize size() const;

 private:
  std::vector<Mapping> regions_;
};

}  // namespace nitro::proc
