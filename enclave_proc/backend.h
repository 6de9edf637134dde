// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "enclave_proc/machine/machine.h"
#include "enclave_proc/registry/sockets_folder.h"
#include "nitro/fd.h"

namespace nitro::proc {

/// Creates the machine for `request`, not yet started. `image`: the file of `request.eif_path`, or the error from
/// opening it, which each engine reports at its own point. `folder`: where a local machine creates its own folder.
/// Checks whatever can be checked without taking resources: that the image is well-formed and the amount of memory.
/// Errors: that of `image`, kSignatureChecker, kInsufficientMemoryRequested, and those of the engine.
Result<std::unique_ptr<Machine>> make_machine(const RunRequest& request, Result<Fd> image, const SocketsFolder& folder);

}  // namespace nitro::proc
