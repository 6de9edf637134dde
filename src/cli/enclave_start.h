// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "enclave_proc/client.h"
#include "enclave_proc/process.h"

/// The start of an enclave as the command line sees it: the process that it starts, and what that says until the
/// enclave runs.
namespace nitro::cli {

/// Takes a name for the enclave, `request.enclave_name` or that with a number behind it, and starts its process. Its
/// socket will be in `folder`; `folders` are those where other enclaves may be. Signals that end a program are blocked
/// from here on, as one would leave a lock file behind; follow_start() looks at those that have come. Errors: those of
/// start_enclave_process() and of asking the other enclaves.
Result<proc::StartedProcess> start_process(proc::RunRequest& request, const proc::SocketsFolder& folder,
                                           const std::vector<proc::SocketsFolder>& folders,
                                           const std::string& logs_folder);

/// Follows the start until the enclave runs or its process has ended, and shows what the process says to people as it
/// comes. A signal undoes the start; this process then ends by that signal, when nothing is left.
Result<proc::Answer> follow_start(proc::StartedProcess& process);

/// Why there is no enclave, when `answer` is not that it runs.
[[nodiscard]] Failure not_started(const proc::Answer& answer, proc::StartedProcess& process);

}  // namespace nitro::cli
