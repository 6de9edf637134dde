// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/device/memory.h"

#include <fmt/format.h>
#include <linux/mman.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <string>

#include "enclave_proc/device/numa.h"
#include "enclave_proc/device/uapi.h"
#include "nitro/fd.h"

namespace nitro::proc {
namespace {

struct PageSize {
  std::uint64_t bytes;
  int flag;
};

/// The huge page sizes that linux/mman.h names and that are multiples of the driver's 2 MiB, largest first. mmap fails
/// for a size that the machine does not have, just as when no page of the size is free.
constexpr std::array<PageSize, 9> kPageSizes = {{
    // The flag is unsigned in the header and part of an int argument of mmap(2).
    {16 * kGiB, static_cast<int>(MAP_HUGE_16GB)},
    {2 * kGiB, static_cast<int>(MAP_HUGE_2GB)},
    {1 * kGiB, MAP_HUGE_1GB},
    {512 * kMiB, MAP_HUGE_512MB},
    {256 * kMiB, MAP_HUGE_256MB},
    {32 * kMiB, MAP_HUGE_32MB},
    {16 * kMiB, MAP_HUGE_16MB},
    {8 * kMiB, MAP_HUGE_8MB},
    {2 * kMiB, MAP_HUGE_2MB},
}};

static_assert(std::all_of(kPageSizes.begin(), kPageSizes.end(),
                          [](const PageSize& size) { return size.bytes % kRegionAlignment == 0; }));

/// The pages of one attempt to get memory, and how much is still missing.
class Collection {
 public:
  Collection(std::uint64_t wanted_bytes, std::optional<unsigned> numa_node)
      : missing_(wanted_bytes), numa_node_(numa_node) {}

  [[nodiscard]] std::uint64_t missing() const { return missing_; }
  [[nodiscard]] bool has_room_for(const PageSize& size) const { return missing_ >= size.bytes; }

  /// Takes one more page. Returns false when none is free.
  bool take(const PageSize& size) {
    auto page =
        Mapping::map(-1, size.bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | size.flag);
    if (!page || (numa_node_ && !find_page_on(*numa_node_, page->bytes()))) return false;
    missing_ -= std::min(missing_, size.bytes);
    pages_.push_back(std::move(*page));
    return true;
  }

  /// Returns the fewest and largest pages that add up to `wanted_bytes`; frees the others.
  std::vector<Mapping> largest(std::uint64_t wanted_bytes) && {
    std::stable_sort(pages_.begin(), pages_.end(),
                     [](const Mapping& a, const Mapping& b) { return a.bytes().size() > b.bytes().size(); });
    std::size_t needed = 0;
    for (std::uint64_t sum = 0; needed < pages_.size() && sum < wanted_bytes; ++needed)
      sum += pages_[needed].bytes().size();
    pages_.resize(needed);
    return std::move(pages_);
  }

 private:
  std::uint64_t missing_;
  std::optional<unsigned> numa_node_;
  std::vector<Mapping> pages_;
};

Result<std::vector<PageSize>> usable_sizes(std::optional<MemorySize> only) {
  std::vector<PageSize> sizes(kPageSizes.begin(), kPageSizes.end());
  if (!only) return sizes;
  std::erase_if(sizes, [&](const PageSize& size) { return size.bytes != only->bytes(); });
  if (sizes.empty())
    return fail(ErrorCode::kNoSuchHugepageFlag, fmt::format("there are no huge pages of {} MiB", only->mib()));
  return sizes;
}

Failure too_little(MemorySize wanted, std::uint64_t missing_bytes, const PageChoice& choice) {
  const std::string kind =
      choice.size ? fmt::format("free huge pages of {} MiB", choice.size->mib()) : "free huge pages";
  const std::string place =
      choice.numa_node ? fmt::format("NUMA node {}, that of the pool's CPUs,", *choice.numa_node) : "this machine";
  return fail(ErrorCode::kInsufficientMemoryAvailable,
              fmt::format("{} MiB were requested, but the {} of {} amount to {} MiB", wanted.mib(), kind, place,
                          wanted.mib() - MemorySize::from_bytes(missing_bytes).mib()));
}

}  // namespace

std::vector<MemorySize> EnclaveMemory::page_sizes() {
  std::vector<MemorySize> sizes;
  for (const PageSize& size : kPageSizes) sizes.push_back(MemorySize::from_bytes(size.bytes));
  return sizes;
}

Result<EnclaveMemory> EnclaveMemory::allocate(MemorySize wanted, const PageChoice& choice, const GoOn& go_on) {
  NITRO_TRY(const auto sizes, usable_sizes(choice.size));
  Collection collection(wanted.bytes(), choice.numa_node);
  const auto take = [&](const PageSize& size) -> Result<bool> {
    // Without a node, mmap(2) only reserves the page, which is not slow.
    if (choice.numa_node) {
      NITRO_CHECK(go_on());
    }
    return collection.take(size);
  };
  for (const PageSize& size : sizes) {
    bool taken = true;
    while (taken && collection.has_room_for(size)) {
      NITRO_TRY(taken, take(size));
    }
  }
  // What is missing is less than a page of the larger sizes, or the smaller ones have run out: from here on a page may
  // be larger than what is missing. Sizes that were exhausted are tried again, as other processes return pages.
  for (auto size = sizes.rbegin(); size != sizes.rend(); ++size) {
    bool taken = true;
    while (taken && collection.missing() > 0) {
      NITRO_TRY(taken, take(*size));
    }
  }
  if (collection.missing() > 0) return too_little(wanted, collection.missing(), choice);
  EnclaveMemory memory;
  memory.regions_ = std::move(collection).largest(wanted.bytes());
  return memory;
}

Result<void> EnclaveMemory::load_image(int fd, std::uint64_t size_bytes, std::uint64_t offset_bytes,
                                       const GoOn& go_on) {
  const std::uint64_t total = size().bytes();
  if (offset_bytes > total || size_bytes > total - offset_bytes) {
    return fail(ErrorCode::kMemoryOverflow,
                fmt::format("an image of {} bytes at {} does not fit into the enclave's {} MiB", size_bytes,
                            offset_bytes, size().mib()));
  }
  std::uint64_t region_start = 0;
  std::uint64_t copied = 0;
  for (const Mapping& region : regions_) {
    if (copied == size_bytes) break;
    const std::uint64_t region_end = region_start + region.bytes().size();
    while (copied < size_bytes && offset_bytes + copied < region_end) {
      NITRO_CHECK(go_on());
      const std::uint64_t position = offset_bytes + copied;
      const std::uint64_t count = std::min({size_bytes - copied, region_end - position, kPieceBytes});
      const auto target = region.bytes().subspan(position - region_start, count);
      if (auto read = pread_exact(fd, target, copied); !read)
        return Failure(std::move(read).error().as(ErrorCode::kEifParsing));
      copied += count;
    }
    region_start = region_end;
  }
  return {};
}

MemorySize EnclaveMemory::size() const {
  std::uint64_t bytes = 0;
  for (const Mapping& region : regions_) bytes += region.bytes().size();
  return MemorySize::from_bytes(bytes);
}

}  // namespace nitro::proc
