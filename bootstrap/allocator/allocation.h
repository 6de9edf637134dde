// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "bootstrap/allocator/record.h"
#include "bootstrap/allocator/reservation.h"

namespace nitro::allocator {

/// Sets aside what `config` asks for, instead of what was set aside before, and records how the machine was before the
/// first time. Huge pages stay as they are, on every node, if `config` asks for none. Errors: those of reserve() and of
/// Record; then everything is as before.
Result<Reservation> allocate(const AllocatorConfig& config, Kernel& kernel, const Record& record,
                             const Progress& progress);

/// Gives everything back: the machine has the settings of the record, which is removed. Without a record, only CPUs are
/// given back. Errors: those of release_cpus(), restore() and of Record.
Result<void> release(Kernel& kernel, const Record& record);

}  // namespace nitro::allocator
