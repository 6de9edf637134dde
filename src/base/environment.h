// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

namespace nitro {

/// The value of a variable of the process's environment. Nothing when it is not set, or empty: shells and unit files
/// set variables to nothing to take them away.
[[nodiscard]] std::optional<std::string> environment_variable(const char* name);

}  // namespace nitro
