// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "nitro/error.h"

namespace nitro {

/// Returns the text that people see when something failed: `[ Exx ]`, what failed and where, what to do, how to learn
/// more. Ends with a newline. The steps that led to the error are also written to a separate file in `logs_folder`,
/// err<UTC time>.log, whose path the text gives (support asks for it); with BACKTRACE=1 in the environment the text
/// includes them too. A file that cannot be written is not mentioned. `action`: what the user asked for, e.g. "Run
/// Enclave". `logs_folder` empty: no file.
[[nodiscard]] std::string report(const Error& error, std::string_view action, const std::string& logs_folder);

}  // namespace nitro
