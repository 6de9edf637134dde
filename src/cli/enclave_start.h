// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "enclave_proc/client/client.h"
#include "enclave_proc/process.h"

/// The start of an enclave from the command line's side: the process that it starts, and that process's messages until
/// the enclave runs.
namespace nitro::cli {

/// Takes a name for the enclave, `request.enclave_name` with a number appended if necessary, and starts its process.
/// Its socket will be in `folder`; `folders` are those that may hold other enclaves. From here on signals that end a
/// program are blocked, as one would leave a lock file behind; follow_start() handles pending ones. Errors: those of
/// start_enclave_process() and of asking the other enclaves.
Result<proc::StartedProcess> start_process(proc::RunRequest& request, const proc::SocketsFolder& folder,
                                           const std::vector<proc::SocketsFolder>& folders,
                                           const std::string& logs_folder);

/// Follows the start until the enclave runs or its process has ended, and shows the process's messages as they come. A
/// signal undoes the start; this process then ends by that signal, once everything is undone.
Result<proc::Answer> follow_start(proc::StartedProcess& process);

/// Explains why there is no enclave, if `answer` does not say that it runs.
[[nodiscard]] Failure not_started(const proc::Answer& answer, proc::StartedProcess& process);

}  // namespace nitro::cli
