// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "src/command/command.h"

/// The subcommands of nitro-cli, one file each. A subcommand declares its options on the application, calls the
/// library, and prints.
namespace nitro::cli {

void add_run_enclave(CLI::App& application, Chosen& chosen);
void add_describe_enclaves(CLI::App& application, Chosen& chosen);
void add_terminate_enclave(CLI::App& application, Chosen& chosen);
void add_console(CLI::App& application, Chosen& chosen);
void add_describe_eif(CLI::App& application, Chosen& chosen);
void add_pcr(CLI::App& application, Chosen& chosen);
void add_explain(CLI::App& application, Chosen& chosen);

}  // namespace nitro::cli
