// SPDX-License-Identifier: Apache-2.0
#pragma once

// The interface of the Nitro Enclaves driver is a kernel header that the system installs (Debian: linux-libc-dev). It
// is included only here. The driver: Linux, drivers/virt/nitro_enclaves/ne_misc_dev.c.
#include <linux/nitro_enclaves.h>
#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

#include "src/base/memory_size.h"

namespace nitro::proc {

// The numbers are the driver's ABI: with a header that disagrees, every call would fail at run time.
static_assert(NE_CREATE_VM == 0x8008ae20 && NE_ADD_VCPU == 0xc004ae21 && NE_GET_IMAGE_LOAD_INFO == 0xc010ae22 &&
              NE_SET_USER_MEMORY_REGION == 0x4018ae23 && NE_START_ENCLAVE == 0xc010ae24);
static_assert(sizeof(ne_image_load_info) == 16 && offsetof(ne_image_load_info, memory_offset) == 8);
static_assert(sizeof(ne_user_memory_region) == 24 && offsetof(ne_user_memory_region, memory_size) == 8 &&
              offsetof(ne_user_memory_region, userspace_addr) == 16);
static_assert(sizeof(ne_enclave_start_info) == 16 && offsetof(ne_enclave_start_info, enclave_cid) == 8);
static_assert(NE_ERR_VCPU_ALREADY_USED == 256 && NE_ERR_INVALID_ENCLAVE_CID == 275);

/// Alignment of the start and the end of memory regions (ne_misc_dev.h, NE_MIN_MEM_REGION_SIZE).
inline constexpr std::uint64_t kRegionAlignment = 2 * kMiB;

}  // namespace nitro::proc
