// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include "src/cli/commands.h"
#include "src/cli/image_program.h"
#include "src/command/image_commands.h"
#include "src/command/run_command.h"
#include "src/runtime/error_report.h"

namespace nitro::cli {
namespace {

void add_commands(CLI::App& application, Chosen& chosen) {
  add_run_enclave(application, chosen);
  add_terminate_enclave(application, chosen);
  list_image_command(application, kBuildEnclave);
  add_describe_eif(application, chosen);
  add_describe_enclaves(application, chosen);
  add_console(application, chosen);
  add_pcr(application, chosen);
  add_explain(application, chosen);
  list_image_command(application, kSignEif);
}

}  // namespace
}  // namespace nitro::cli

int main(int argc, char** argv) {
  if (nitro::cli::is_for_image_program(argc, argv)) {
    const nitro::Error error = nitro::cli::become_image_program(argv);
    std::cerr << nitro::report(error, "Start Image Program", {});
    return nitro::exit_status(error.code());
  }
  return nitro::cli::run_command(argc, argv, nitro::cli::add_commands);
}
