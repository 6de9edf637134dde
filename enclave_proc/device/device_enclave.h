// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "enclave_proc/machine/machine.h"
#include "nitro/fd.h"
#include "src/base/kernel_files.h"

namespace nitro::proc {

/// An enclave of /dev/nitro_enclaves. Takes a slot of the driver at once, as there is no other way to learn whether one
/// is free; start() takes memory and CPUs.
///
/// `image_file`: that of `request.eif_path`, open for reading, or the error from opening it. Checks in this order,
/// which users of the tool rely on: the image file could be opened, the CPUs, the memory, the device, the content of
/// the image. Errors: that of `image_file`; those of CpuPool; kInsufficientMemoryRequested; those of EnclaveSlot;
/// kSignatureChecker for a file that is not an image. start() adds those of EnclaveMemory, and kEnclaveBoot.
Result<std::unique_ptr<Machine>> make_device_enclave(const RunRequest& request, Result<Fd> image_file,
                                                     const KernelFiles& files = {});

}  // namespace nitro::proc
