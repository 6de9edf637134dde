// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace nitro {

/// The version of the tool chain whose interface this one keeps; what `--version` prints and what images name as their
/// build tool's.
inline constexpr std::string_view kVersion = "1.5.0";

}  // namespace nitro
