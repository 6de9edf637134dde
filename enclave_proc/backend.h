// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "enclave_proc/machine.h"

namespace nitro::proc {

/// The machine for `request`, not started. `sockets_folder`: where a local machine makes its folder. Checks what can be
/// told without taking anything: that the image can be opened and holds together, and the amount of memory. Errors:
/// kFileOperation, kSignatureChecker, kInsufficientMemoryRequested, and those of the engine.
Result<std::unique_ptr<Machine>> make_machine(const RunRequest& request, const std::string& sockets_folder);

}  // namespace nitro::proc
