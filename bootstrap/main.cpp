// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <exception>
#include <iostream>

#include "bootstrap/run.h"

int main(int argc, char** argv) {
  try {
    return nitro::allocator::run(argc, argv);
  } catch (const std::exception& error) {
    // The only catch for exceptions: a bug, or no memory.
    std::cerr << "Error: internal error: " << error.what() << "; please report it\n";
    return EXIT_FAILURE;
  }
}
