// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "enclave_proc/client/client.h"

namespace nitro::cli {

/// Whether to print each JSON object on its own, or one array of all of them.
enum class Shape { kObjects, kArray };

/// Returns the folders in which to look for enclaves. Reports skipped folders on stderr. Errors: kReadFromDisk.
Result<std::vector<proc::SocketsFolder>> trusted_folders();

/// Reports on stderr that the enclave behind this socket is left out because the reply of its process is unreadable.
void name_unreadable(const std::string& socket);

/// What to do about an unreadable answer: report the enclave and leave it out, or, if the command was to change
/// something, fail.
enum class Unreadable { kLeaveOut, kFail };

/// Prints the answers of enclave processes: their messages on stderr, their JSON objects on stdout. With
/// `skip_not_permitted`, skips answers with status EACCES: the enclaves of other users are not this user's concern.
/// Returns the printed objects. Errors, after everything else has been printed: kCommandNotExecuted when a process
/// reported a failure, kEnclaveProcessConnection when one did not answer properly or in time.
Result<std::vector<nlohmann::ordered_json>> print_answers(const std::vector<proc::Answer>& answers, Shape shape,
                                                          bool skip_not_permitted, Unreadable unreadable);

}  // namespace nitro::cli
