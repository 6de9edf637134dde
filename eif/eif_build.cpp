// SPDX-License-Identifier: Apache-2.0
#include <csignal>
#include <exception>
#include <iostream>

#include "eif/eif_build_command.h"
#include "nitro/fd.h"
#include "nitro/privileges.h"

int main(int argc, char** argv) {
  // A reader of our output that goes away, and a limit on the size of files, are errors of the write, which are
  // reported.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  // It may be given a private key, or sign with credentials of AWS.
  nitro::forbid_memory_dumps();
  try {
    if (auto opened = nitro::open_standard_descriptors(); !opened) {
      std::cerr << "eif_build: " << opened.error().message() << "\n";
      return 71;  // EX_OSERR
    }
    return nitro::eif::run_eif_build(argc, argv, std::cout, std::cerr);
  } catch (const std::exception& error) {
    std::cerr << "eif_build: internal error: " << error.what() << "; please report it\n";
    return 70;  // EX_SOFTWARE of sysexits.h
  }
}
