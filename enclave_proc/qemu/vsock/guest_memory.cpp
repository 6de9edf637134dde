// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/guest_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "nitro/fd.h"

namespace nitro::proc {
namespace {

bool wraps(std::uint64_t start, std::uint64_t size) {
  return start + size < start;
}

bool overlap(std::uint64_t a, std::uint64_t a_size, std::uint64_t b, std::uint64_t b_size) {
  return a < b + b_size && b < a + a_size;
}

/// Makes sure that the file behind a region cannot lose its pages: QEMU seals its memfds against shrinking; other files
/// get the seal here.
Result<void> forbid_shrinking(int fd) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0) return fail_errno(ErrorCode::kEnclaveBoot, "asking for the seals of the guest memory file");
  if ((seals & F_SEAL_SHRINK) != 0) return {};
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
    return fail_errno(ErrorCode::kEnclaveBoot, "sealing the guest memory file against shrinking");
  }
  return {};
}

}  // namespace

Result<void> GuestMemory::add(const MemoryRegionLayout& layout, int fd) {
  const auto refuse = [](const char* why) {
    return fail(ErrorCode::kEnclaveBoot, std::string("a region of guest memory ") + why);
  };
  if (regions_.size() >= kMaxRegions) return refuse("is one too many");
  if (layout.size == 0) return refuse("is empty");
  if (wraps(layout.guest_address, layout.size) || wraps(layout.user_address, layout.size) ||
      wraps(layout.file_offset, layout.size)) {
    return refuse("ends past the last address");
  }
  for (const Region& other : regions_) {
    if (overlap(layout.guest_address, layout.size, other.layout.guest_address, other.layout.size) ||
        overlap(layout.user_address, layout.size, other.layout.user_address, other.layout.size)) {
      return refuse("overlaps another");
    }
  }
  NITRO_CHECK(forbid_shrinking(fd));
  NITRO_TRY(const std::uint64_t length, file_size(fd));
  if (layout.file_offset + layout.size > length) return refuse("is longer than its file");

  // mmap(2) needs a page-aligned file offset; a region may start anywhere.
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  const std::uint64_t lead = layout.file_offset % page;
  auto mapping = Mapping::map(fd, layout.size + lead, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
                              layout.file_offset - lead);
  if (!mapping) return fail_within("mapping guest memory", std::move(mapping).error());
  Region region{layout, std::move(*mapping), {}};
  region.bytes = region.mapping.bytes().subspan(lead, layout.size);
  regions_.push_back(std::move(region));
  return {};
}

std::span<std::byte> GuestMemory::at_user_address(std::uint64_t address, std::uint64_t size) const {
  for (const Region& region : regions_) {
    if (address < region.layout.user_address) continue;
    const std::uint64_t offset = address - region.layout.user_address;
    if (offset < region.layout.size && size <= region.layout.size - offset) return region.bytes.subspan(offset, size);
  }
  return {};
}

bool GuestMemory::append(std::uint64_t guest_address, std::uint64_t size, std::vector<iovec>& pieces) const {
  const std::size_t before = pieces.size();
  if (wraps(guest_address, size)) return false;
  while (size > 0) {
    const auto region = std::find_if(regions_.begin(), regions_.end(), [&](const Region& candidate) {
      return guest_address >= candidate.layout.guest_address &&
             guest_address - candidate.layout.guest_address < candidate.layout.size;
    });
    if (region == regions_.end()) {
      pieces.resize(before);
      return false;
    }
    const std::uint64_t offset = guest_address - region->layout.guest_address;
    const std::uint64_t here = std::min(size, region->layout.size - offset);
    pieces.push_back(iovec{region->bytes.data() + offset, here});
    guest_address += here;
    size -= here;
  }
  return true;
}

}  // namespace nitro::proc
