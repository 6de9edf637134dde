// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "nitro/log.h"
#include "nitro/result.h"

/// The subcommands of nitro-cli: one file each. A subcommand declares its options on the application, asks the library,
/// and prints.
namespace nitro::cli {

/// What every command is given.
struct Context {
  Log log = Log::none();
  std::string logs_folder;  ///< empty when there is none
};

/// The command that was chosen on the command line.
struct Chosen {
  std::string action;  ///< how messages call it, e.g. "Run Enclave"
  std::function<Result<void>(Context&)> run;
  bool holds_secrets = false;  ///< private keys, passwords of registries, credentials of AWS
};

void add_run_enclave(CLI::App& application, Chosen& chosen);
void add_describe_enclaves(CLI::App& application, Chosen& chosen);
void add_terminate_enclave(CLI::App& application, Chosen& chosen);
void add_console(CLI::App& application, Chosen& chosen);
void add_build_enclave(CLI::App& application, Chosen& chosen);
void add_describe_eif(CLI::App& application, Chosen& chosen);
void add_sign_eif(CLI::App& application, Chosen& chosen);
void add_pcr(CLI::App& application, Chosen& chosen);
void add_explain(CLI::App& application, Chosen& chosen);

}  // namespace nitro::cli
