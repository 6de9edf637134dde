// SPDX-License-Identifier: Apache-2.0
#include "src/command/program.h"
#include "vsock_proxy/run.h"

int main(int argc, char** argv) {
  return nitro::run_program(argc, argv, nitro::proxy::run);
}
