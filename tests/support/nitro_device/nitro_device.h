// SPDX-License-Identifier: Apache-2.0
#pragma once

// For tests that are linked against the stand-in (README.md): its state, which a preloaded program has no use for.
extern "C" {

/// Forgets everything and reads the environment anew at the next call. Descriptors and pages of before must be closed.
void nitro_device_reset();
/// Free huge pages of this size, in MiB: 2 or 1024.
unsigned long long nitro_device_free_pages(unsigned page_mib);
/// CPUs of the pool that no enclave has.
unsigned nitro_device_free_cpus();
}
