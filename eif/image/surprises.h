// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "eif/image/image.h"

namespace nitro::image {

/// What the image's author may expect of a container engine and will not see in an enclave (docs/enclave-init.md):
/// ENTRYPOINT beside CMD, a user, a working folder that the command relies on, newlines and zero bytes in the command
/// or a variable. One sentence each, values quoted; none when the enclave does what an engine would. `exists`: whether
/// the image has a file at this path from the root.
[[nodiscard]] std::vector<std::string> surprises_in(const ImageConfig& config,
                                                    const std::function<bool(const std::string& path)>& exists);

}  // namespace nitro::image
