// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nitro/error.h"

namespace nitro::cli {

/// Replaces this process by nitro-cli-image, the program for the commands that make images, with the same command line.
/// Returns only on failure: kFileOperation; the message names the program.
[[nodiscard]] Error become_image_program(char* const* argv);

}  // namespace nitro::cli
