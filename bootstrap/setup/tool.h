// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "nitro/result.h"

/// Runs programs of the system.
namespace nitro::setup {

/// Whether there is such a program, in PATH or in the folders for administrators, which an ordinary user's PATH lacks.
[[nodiscard]] bool has_tool(const std::string& name);

/// Runs a program, waits for it, and returns what it printed. A signal that ends this process later does not interrupt
/// it. Errors: kProcessSpawn, with the last line that it printed.
Result<std::string> run_tool(std::vector<std::string> arguments);

/// The same for a program that may take minutes: SIGTERM, SIGINT and SIGHUP also end it and all that it has started; a
/// second one does not wait for it. `shown`: its output goes to stderr. Returns its exit status. Errors: kProcessSpawn,
/// with the last lines that it printed unless they are shown, for every status that is not in `good`.
Result<int> run_long_tool(std::vector<std::string> arguments, bool shown, std::initializer_list<int> good);

}  // namespace nitro::setup
