// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "eif/image/image.h"

namespace nitro::image {

/// Returns differences from a container engine that may surprise the image's author (docs/enclave-init.md): ENTRYPOINT
/// beside CMD, a user, a working folder that the command relies on, newlines and zero bytes in the command or a
/// variable. One sentence each, with values quoted; empty if the enclave behaves like an engine. `exists`: whether the
/// image has a file at this absolute path.
[[nodiscard]] std::vector<std::string> surprises_in(const ImageConfig& config,
                                                    const std::function<bool(const std::string& path)>& exists);

}  // namespace nitro::image
