// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ostream>
#include <string>

#include "nitro/result.h"

namespace nitro {

/// `nitro-cli describe-eif`: prints the description of the image at `path` as JSON. Nothing is printed on failure.
/// Errors: those of eif::describe().
Result<void> describe_eif(const std::string& path, std::ostream& out);

}  // namespace nitro
