// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "enclave_proc/machine/machine.h"
#include "enclave_proc/registry/sockets_folder.h"
#include "nitro/eif/reader.h"

namespace nitro::proc {

/// An enclave that QEMU runs on this machine. Nothing is taken before start(). Errors, when this machine lacks what
/// `request` asks for: kInvalidCpuConfiguration, kNoSuchCpuInPool, kInsufficientCpus, kInsufficientMemoryAvailable.
Result<std::unique_ptr<Machine>> make_qemu_enclave(const RunRequest& request, eif::Reader image,
                                                   const SocketsFolder& folder);

}  // namespace nitro::proc
