// SPDX-License-Identifier: Apache-2.0
#include "src/base/mapping.h"

#include <fmt/format.h>
#include <sys/mman.h>

namespace nitro {

Mapping::~Mapping() {
  if (address_ != nullptr) ::munmap(address_, size_);
}

Result<Mapping> Mapping::map(int fd, std::size_t size_bytes, int protection, int flags, std::uint64_t offset_bytes) {
  void* address = ::mmap(nullptr, size_bytes, protection, flags, fd, static_cast<off_t>(offset_bytes));
  if (address == MAP_FAILED) return fail_errno(ErrorCode::kFileOperation, fmt::format("mapping {} bytes", size_bytes));
  return Mapping(address, size_bytes);
}

}  // namespace nitro
