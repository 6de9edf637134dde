// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "enclave_proc/machine/machine.h"
#include "enclave_proc/registry/sockets_folder.h"
#include "nitro/fd.h"

namespace nitro::proc {

/// The machine for `request`, not started. `image`: the file of `request.eif_path`, or why it could not be opened,
/// which each engine tells at its own point. `folder`: where a local machine makes its own. Checks what can be told
/// without taking anything: that the image holds together, and the amount of memory. Errors: that of `image`,
/// kSignatureChecker, kInsufficientMemoryRequested, and those of the engine.
Result<std::unique_ptr<Machine>> make_machine(const RunRequest& request, Result<Fd> image, const SocketsFolder& folder);

}  // namespace nitro::proc
