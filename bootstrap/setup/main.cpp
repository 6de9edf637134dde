// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/setup/run.h"
#include "src/command/program.h"

int main(int argc, char** argv) {
  return nitro::run_program(argc, argv, nitro::setup::run);
}
