// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace nitro::proc {

/// From now on the calling thread opens, makes and removes files below `folders` only; what is open stays open. Needs
/// PR_SET_NO_NEW_PRIVS. Returns 0 or an errno: ENOSYS and EOPNOTSUPP where the kernel has no Landlock (before 5.13, or
/// not built in), EMFILE at the limit of descriptors. Nothing is restricted then.
[[nodiscard]] int restrict_files(const std::vector<std::string>& folders);

}  // namespace nitro::proc
