// SPDX-License-Identifier: Apache-2.0
#include "src/command/program.h"

#include <cstdlib>
#include <exception>
#include <iostream>

#include "src/runtime/program_start.h"

namespace nitro {

int run_program(int argc, char** argv, int (*program)(int argc, char** argv)) {
  try {
    if (auto prepared = prepare_program(); !prepared) return fail_with(prepared.error().message());
    return program(argc, argv);
  } catch (const std::exception& error) {
    return fail_with(std::string("internal error: ") + error.what() + "; please report it");
  }
}

int fail_with(const std::string& message) {
  std::cout.flush();
  std::cerr << "Error: " << message << "\n";
  return EXIT_FAILURE;
}

int finish_output() {
  return std::cout.flush() ? EXIT_SUCCESS : fail_with("the output cannot be written");
}

}  // namespace nitro
