// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>

#include "enclave_proc/machine.h"
#include "nitro/fd.h"

namespace nitro::proc {

/// The command line's end of a process that has just been started.
struct StartedProcess {
  Fd socket;  ///< carries replies of the protocol (no confirmation first), then ends; closing it before that undoes the
              ///< start
};

/// Starts the enclave process: a daemon by double fork, in a session of its own, without a descriptor of ours but the
/// socket. It starts the enclave, tells how that went, and then lives as long as the enclave does, serving `<sockets
/// folder>/<slot>.sock`. `name_claim` (may be invalid) stays open in it: the enclave's name is taken until the enclave
/// has ended. The calling process must have no second thread. Errors: kSocketPairCreation, kProcessSpawn.
Result<StartedProcess> start_enclave_process(const RunRequest& request, Fd name_claim, const std::string& logs_folder);

}  // namespace nitro::proc
