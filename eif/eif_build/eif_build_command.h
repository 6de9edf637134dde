// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ostream>

#include "eif/kms/environment.h"

namespace nitro::eif {

/// The program `eif_build`: puts a kernel, a command line and ramdisks into an image, and prints the image's
/// measurements. The options and what goes to `out` are those of the reference's eif_build 0.3.1. Returns the exit
/// status: 0, 2 for a command line that cannot be understood, else the number of an error code. Nothing stands under
/// the output's name unless all went well. `environment` is what signing looks at, the clock among it.
int run_eif_build(int argc, const char* const* argv, std::ostream& out, std::ostream& err,
                  const kms::Environment& environment = kms::Environment::of_process());

}  // namespace nitro::eif
