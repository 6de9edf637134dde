// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>

namespace nitro {

/// Makes `application` parse the command line by the rules of the AWS tools where CLI11's differ:
/// - "-nVALUE" and "-n=VALUE" are the short option -n with a value
/// - "--name=" is an empty value; CLI11 would use the next word
/// - a word that begins with "-" is not a value unless it follows "=", so that a forgotten value does not consume the
///   next option
/// - unknown words are reported before missing ones
/// - "help" and "help COMMAND" are --help
///
/// Throws CLI::ParseError, also for --help and --version.
void parse_arguments(CLI::App& application, int argc, const char* const* argv);

}  // namespace nitro
