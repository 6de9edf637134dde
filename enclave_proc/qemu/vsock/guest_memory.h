// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "nitro/result.h"
#include "src/base/mapping.h"

namespace nitro::proc {

/// The location of one region of guest memory: in the guest's physical addresses, in the front-end's virtual addresses,
/// and in the file that backs it (vhost-user, "Memory regions description"). Sizes and offsets in bytes.
struct MemoryRegionLayout {
  std::uint64_t guest_address = 0;
  std::uint64_t size = 0;
  std::uint64_t user_address = 0;
  std::uint64_t file_offset = 0;
};

/// The guest's memory as seen by this process. Every address from the guest or the front-end is resolved here and
/// nowhere else; an address range that is not entirely inside regions is rejected. The bytes may change at any time, so
/// copy first and check the copy.
class GuestMemory {
 public:
  /// vhost-user allows eight regions in one table.
  static constexpr std::size_t kMaxRegions = 8;

  /// Maps a region; `fd` is borrowed. Refuses empty and wrapping regions, overlaps in guest or front-end addresses, a
  /// ninth region, and files that are too short or could be shortened later (no F_SEAL_SHRINK and no way to add it):
  /// touching a page that was cut off would kill us with SIGBUS. Errors: kEnclaveBoot.
  Result<void> add(const MemoryRegionLayout& layout, int fd);

  [[nodiscard]] std::size_t region_count() const { return regions_.size(); }

  /// Returns `size` bytes at a front-end address; empty unless all of them lie in one region.
  [[nodiscard]] std::span<std::byte> at_user_address(std::uint64_t address, std::uint64_t size) const;

  /// Appends the pieces of our memory that make up a guest buffer (more than one where regions meet). Returns false,
  /// leaving `pieces` unchanged, if any byte of the buffer is outside memory. An empty buffer adds nothing.
  [[nodiscard]] bool append(std::uint64_t guest_address, std::uint64_t size, std::vector<iovec>& pieces) const;

 private:
  struct Region {
    MemoryRegionLayout layout;
    Mapping mapping;
    std::span<std::byte> bytes;  // layout.size bytes inside the mapping
  };
  std::vector<Region> regions_;
};

}  // namespace nitro::proc
