// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>

namespace nitro {

/// Has `application` parse the command line, by the rules that users of the AWS tools know where CLI11 has others:
/// - "--name=" is an empty value; CLI11 would take the next word for it
/// - a word that begins with "-" is no value unless it stands behind "=", so that a forgotten value does not eat the
///   option behind it
/// - what is unknown is named, before anything is said to be missing
/// - "help" and "help COMMAND" are --help
///
/// Throws CLI::ParseError, also for --help and --version.
void parse_arguments(CLI::App& application, int argc, const char* const* argv);

}  // namespace nitro
