// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "src/command/command.h"

namespace nitro::cli {

/// Adds its subcommands to the application.
using AddCommands = std::function<void(CLI::App& application, Chosen& chosen)>;

/// What main() of a program with the command line of nitro-cli does: takes the command line apart, runs the command
/// that was chosen, and reports what failed. Returns the exit status: 0; the number of the error code; 2 for a command
/// line that cannot be understood; 1 for a fault of the program itself, and when it cannot even begin.
int run_command(int argc, char** argv, const AddCommands& add_commands);

}  // namespace nitro::cli
