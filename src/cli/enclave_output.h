// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "enclave_proc/client.h"

namespace nitro::cli {

/// Whether one JSON object is printed, or an array of all of them.
enum class Shape { kObjects, kArray };

/// The folders in which enclaves are looked for. Those that are passed over are named on stderr. Errors: kReadFromDisk.
Result<std::vector<proc::SocketsFolder>> trusted_folders();

/// Says on stderr that the enclave behind this socket is left out, as nobody can read what its process says.
void name_unreadable(const std::string& socket);

/// What to do about an answer that nobody can read: its enclave is named and left out, or, where something had to be
/// done, it is a failure.
enum class Unreadable { kLeaveOut, kFail };

/// Prints what enclave processes answered: their messages on stderr, their JSON objects on stdout. Answers with the
/// status EACCES are passed over when `skip_not_permitted`: the enclaves of other users are none of this one's
/// business. Returns the printed objects. Errors: kCommandNotExecuted when a process reported a failure,
/// kEnclaveProcessConnection when one did not answer in time, or not properly; everything else has been printed then.
Result<std::vector<nlohmann::ordered_json>> print_answers(const std::vector<proc::Answer>& answers, Shape shape,
                                                          bool skip_not_permitted, Unreadable unreadable);

}  // namespace nitro::cli
