// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "src/command/command.h"

/// The subcommands of nitro-cli that the program nitro-cli-image runs, one file each.
namespace nitro::cli {

void add_build_enclave(CLI::App& application, Chosen& chosen);
void add_sign_eif(CLI::App& application, Chosen& chosen);

}  // namespace nitro::cli
