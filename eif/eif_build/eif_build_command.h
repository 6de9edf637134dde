// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ostream>

#include "eif/kms/environment.h"

namespace nitro::eif {

/// The program `eif_build`: combines a kernel, a command line and ramdisks into an image, and prints the image's
/// measurements. The options and the output to `out` are those of the reference's eif_build 0.3.1. Returns the exit
/// status: 0, 2 for an invalid command line, else the number of an error code. The output file only appears on success.
/// `environment`: used for signing, including its clock.
int run_eif_build(int argc, const char* const* argv, std::ostream& out, std::ostream& err,
                  const kms::Environment& environment = kms::Environment::of_process());

}  // namespace nitro::eif
