// SPDX-License-Identifier: Apache-2.0
#include <csignal>
#include <exception>
#include <iostream>

#include "eif/eif_build_command.h"

int main(int argc, char** argv) {
  // A reader of our output that goes away is an error of the write, which is reported.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return nitro::eif::run_eif_build(argc, argv, std::cout, std::cerr);
  } catch (const std::exception& error) {
    std::cerr << "eif_build: internal error: " << error.what() << "; please report it\n";
    return 70;  // EX_SOFTWARE of sysexits.h
  }
}
