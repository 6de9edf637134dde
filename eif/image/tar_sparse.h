// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "eif/image/budget.h"
#include "nitro/result.h"

namespace nitro::image {

/// A region of a sparse file that an archive stores; the rest of the file is zeros.
struct SparseRegion {
  std::uint64_t offset_bytes = 0;  ///< in the file
  std::uint64_t size_bytes = 0;
};
/// Sorted by offset, without overlaps; in the archive they are contiguous.
using SparseRegions = HeldVector<SparseRegion>;

/// Limit for the regions of one file.
inline constexpr std::size_t kMaxSparseRegions = 100'000;

/// Adds the regions in a block of an old GNU sparse header: `count` pairs of 12-byte numbers from `offset` on; a pair
/// that starts with a zero byte ends the list (GNU tar manual, "Standard Format", struct sparse). Errors: kEifBuilding.
Result<void> add_gnu_sparse_regions(std::span<const std::byte> block, std::size_t offset, std::size_t count,
                                    SparseRegions& regions);

/// Adds `count` regions from the decimal numbers of a pax sparse map, separated by `separator`: offset, size, offset,
/// size, … (GNU tar manual, "Storing Sparse Files"). Errors: kEifBuilding, also when there are fewer numbers.
Result<void> add_pax_sparse_regions(std::string_view numbers, char separator, std::uint64_t count,
                                    SparseRegions& regions);

/// Errors: kEifBuilding when regions overlap, are out of order or exceed the file's `file_bytes`, or when the archive
/// does not store exactly `stored_bytes` of them.
Result<void> check_sparse_regions(const SparseRegions& regions, std::uint64_t file_bytes, std::uint64_t stored_bytes);

}  // namespace nitro::image
