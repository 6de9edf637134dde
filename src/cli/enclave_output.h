// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "enclave_proc/client.h"

namespace nitro::cli {

/// Whether one JSON object is printed, or an array of all of them.
enum class Shape { kObjects, kArray };

/// Prints what enclave processes answered: their messages on stderr, their JSON objects on stdout. Answers with the
/// status EACCES are passed over when `skip_not_permitted`: the enclaves of other users are none of this one's
/// business. Returns the printed objects. Errors: kCommandNotExecuted when a process reported a failure,
/// kEnclaveProcessConnection when one did not answer properly; everything else has been printed then.
Result<std::vector<nlohmann::ordered_json>> print_answers(const std::vector<proc::Answer>& answers, Shape shape,
                                                          bool skip_not_permitted);

}  // namespace nitro::cli
