// SPDX-License-Identifier: Apache-2.0
#include "src/command/run_command.h"
#include "src/image_cli/commands.h"
#include "src/runtime/ending_signals.h"

int main(int argc, char** argv) {
  nitro::remove_output_when_a_signal_ends_us();
  return nitro::cli::run_command(argc, argv, [](CLI::App& application, nitro::cli::Chosen& chosen) {
    nitro::cli::add_build_enclave(application, chosen);
    nitro::cli::add_sign_eif(application, chosen);
  });
}
