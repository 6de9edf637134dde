// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <malloc.h>

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
// sanitizer/allocator_interface.h, which gcc does not install.
extern "C" std::size_t __sanitizer_get_current_allocated_bytes();
#endif

namespace nitro::testing {

/// Bytes that this process has from its heap now, whichever thread took them. A sanitizer's allocator has a count of
/// its own.
inline std::size_t heap_bytes() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return ::__sanitizer_get_current_allocated_bytes();
#else
  const struct mallinfo2 info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
#endif
}

}  // namespace nitro::testing
