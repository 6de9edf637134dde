// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "src/base/kernel_files.h"

namespace nitro {

/// Why the driver of Nitro Enclaves or its device is not there, and what to do about it: one clause without a full
/// stop, such as "the driver nitro_enclaves is not loaded: modprobe nitro_enclaves".
///
/// Looks at files only, and copes with each of them being absent, as in containers. To be asked when the device or the
/// pool of CPUs could not be opened because it does not exist.
[[nodiscard]] std::string why_no_driver(const KernelFiles& files);

}  // namespace nitro
