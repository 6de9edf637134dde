// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

/// main() and errors of the programs without subcommands and error codes: vsock-proxy and those in bootstrap/.
namespace nitro {

/// The body of main(): prepares the process (prepare_program()) and runs the program, which returns its exit status.
/// Catches exceptions, which mean a bug or no memory.
int run_program(int argc, char** argv, int (*program)(int argc, char** argv));

/// Prints "Error: MESSAGE" on stderr, and returns the exit status of a program that failed, 1.
int fail_with(const std::string& message);

/// The exit status of a program that has done its work: 0 if everything that it printed has been written.
int finish_output();

}  // namespace nitro
