// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "enclave_proc/machine.h"
#include "nitro/eif/reader.h"

namespace nitro::proc {

/// An enclave that QEMU runs on this machine. Nothing is taken before start(). Errors: kInvalidCpuConfiguration,
/// kNoSuchCpuInPool, kInsufficientCpus, kInsufficientMemoryAvailable when this machine does not have what `request`
/// asks for.
Result<std::unique_ptr<Machine>> make_local_enclave(const RunRequest& request, eif::Reader image,
                                                    const std::string& sockets_folder);

}  // namespace nitro::proc
