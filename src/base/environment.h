// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>

namespace nitro {

/// Returns the value of an environment variable, or nullopt if it is unset or empty: shells and unit files set
/// variables to the empty string to unset them.
[[nodiscard]] std::optional<std::string> environment_variable(const char* name);

}  // namespace nitro
