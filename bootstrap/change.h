// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "bootstrap/allocator/record.h"

/// What the programs that change this machine for enclaves have in common.
namespace nitro::allocator {

/// Waits until no other of these programs is at work; a signal may end this one meanwhile. From then on SIGTERM, SIGINT
/// and SIGHUP are held back, as what has begun is finished, or undone. `root` is in front of /run. Errors: those of
/// Record::open(); kFileOperation if `root` is no folder, as nothing is created for a mistyped one.
Result<Record> begin_change(const std::string& root);

/// Whether one of the signals that begin_change() holds back has arrived. It stays pending.
[[nodiscard]] bool is_asked_to_end();

/// The names of the enclaves that run; none if they cannot be asked.
[[nodiscard]] std::vector<std::string> running_enclaves();

/// The message of a failure, with the enclaves that are in the way.
[[nodiscard]] std::string explained(const Error& error);

}  // namespace nitro::allocator
