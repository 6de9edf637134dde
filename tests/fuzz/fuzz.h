// SPDX-License-Identifier: Apache-2.0
// What fuzzers have in common.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string_view>

#include "nitro/fd.h"
#include "src/base/bytes.h"

namespace nitro::fuzz {

/// A finding when it does not hold.
inline void require(bool holds) {
  if (!holds) std::abort();
}

/// The bytes as an open file, in memory.
inline Fd file_of(std::string_view bytes) {
  Fd file(::memfd_create("fuzz", MFD_CLOEXEC));
  require(file.valid() && write_all(file.get(), as_bytes(bytes)).has_value());
  return file;
}

/// Whether one of these messages of the socket, a 64-bit length and so many bytes each, says that it is longer than
/// `limit`.
inline bool announces_more_than(std::uint64_t limit, std::span<const std::byte> messages) {
  while (messages.size() >= 8) {
    const auto length = load_le<std::uint64_t>(messages);
    if (length > limit) return true;
    messages = messages.subspan(8);
    if (length > messages.size()) return false;
    messages = messages.subspan(static_cast<std::size_t>(length));
  }
  return false;
}

}  // namespace nitro::fuzz
