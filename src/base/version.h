// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace nitro {

/// The version of the AWS tools whose interface this one implements; printed by `--version` and recorded in images as
/// that of the build tool.
inline constexpr std::string_view kVersion = "1.5.0";

}  // namespace nitro
