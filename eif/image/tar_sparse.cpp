// SPDX-License-Identifier: Apache-2.0
#include "eif/image/tar_sparse.h"

#include <optional>
#include <string>

#include "eif/image/tar_format.h"

namespace nitro::image {

namespace {

Failure refuse(const char* reason) {
  return fail(ErrorCode::kEifBuilding, reason);
}

Result<void> add(std::optional<std::int64_t> offset, std::optional<std::int64_t> size, SparseRegions& regions) {
  if (!offset || *offset < 0 || !size || *size < 0) return refuse("a number in a map of a sparse file cannot be read");
  if (regions.size() == kMaxSparseRegions) {
    return fail(ErrorCode::kEifBuilding,
                "a sparse file has more than " + std::to_string(kMaxSparseRegions) + " regions");
  }
  regions.push_back({static_cast<std::uint64_t>(*offset), static_cast<std::uint64_t>(*size)});
  return {};
}

}  // namespace

Result<void> add_gnu_sparse_regions(std::span<const std::byte> block, std::size_t offset, std::size_t count,
                                    SparseRegions& regions) {
  constexpr std::size_t kNumberBytes = 12;
  for (std::size_t i = 0; i < count; ++i, offset += 2 * kNumberBytes) {
    if (block[offset] == std::byte{0}) break;
    NITRO_CHECK(add(tar_number(block, {offset, kNumberBytes}), tar_number(block, {offset + kNumberBytes, kNumberBytes}),
                    regions));
  }
  return {};
}

Result<void> add_pax_sparse_regions(std::string_view numbers, char separator, std::uint64_t count,
                                    SparseRegions& regions) {
  const auto next = [&]() -> std::optional<std::int64_t> {
    const auto end = numbers.find(separator);
    const auto number = pax_number(numbers.substr(0, end));
    numbers = end == std::string_view::npos ? std::string_view() : numbers.substr(end + 1);
    return number;
  };
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto offset = next();
    const auto size = next();
    NITRO_CHECK(add(offset, size, regions));
  }
  return {};
}

Result<void> check_sparse_regions(const SparseRegions& regions, std::uint64_t file_bytes, std::uint64_t stored_bytes) {
  std::uint64_t end = 0;
  std::uint64_t stored = 0;
  for (const auto& region : regions) {
    // Each number is below 2^63, so their sum does not overflow.
    if (region.offset_bytes < end || region.offset_bytes + region.size_bytes > file_bytes) {
      return refuse("the regions of a sparse file overlap or end behind the file");
    }
    end = region.offset_bytes + region.size_bytes;
    stored += region.size_bytes;
  }
  if (stored != stored_bytes) return refuse("the regions of a sparse file are not what the archive stores");
  return {};
}

}  // namespace nitro::image
