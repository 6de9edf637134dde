// SPDX-License-Identifier: Apache-2.0
#include <exception>
#include <iostream>

#include "eif/eif_build/eif_build_command.h"
#include "src/runtime/ending_signals.h"
#include "src/runtime/privileges.h"
#include "src/runtime/program_start.h"

int main(int argc, char** argv) {
  // It may be given a private key, or sign with AWS credentials.
  nitro::forbid_memory_dumps();
  nitro::remove_output_when_a_signal_ends_us();
  try {
    if (auto prepared = nitro::prepare_program(); !prepared) {
      std::cerr << "eif_build: " << prepared.error().message() << "\n";
      return 71;  // EX_OSERR
    }
    return nitro::eif::run_eif_build(argc, argv, std::cout, std::cerr);
  } catch (const std::exception& error) {
    std::cerr << "eif_build: internal error: " << error.what() << "; please report it\n";
    return 70;  // EX_SOFTWARE of sysexits.h
  }
}
