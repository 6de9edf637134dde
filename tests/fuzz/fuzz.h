// SPDX-License-Identifier: Apache-2.0
// What fuzzers have in common.
#pragma once

#include <sys/mman.h>

#include <cstdlib>
#include <memory>
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

}  // namespace nitro::fuzz
