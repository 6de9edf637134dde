// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "src/command/command.h"

namespace nitro::cli {

/// Adds the program's subcommands to the application.
using AddCommands = std::function<void(CLI::App& application, Chosen& chosen)>;

/// The body of main() for programs with the command line of nitro-cli: parses the command line, runs the chosen
/// command, and reports errors. Returns the exit status: 0; the number of the error code; 2 for an invalid command
/// line; 1 for a fault of the program itself, and when it cannot even start.
int run_command(int argc, char** argv, const AddCommands& add_commands);

}  // namespace nitro::cli
