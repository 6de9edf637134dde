// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace nitro::proc {

/// Limits the calling thread to opening, creating and removing files below `folders`; open descriptors stay usable.
/// Needs PR_SET_NO_NEW_PRIVS. Returns 0 or an errno, in which case nothing is restricted: ENOSYS and EOPNOTSUPP where
/// the kernel has no Landlock (before 5.13, or not built in), EMFILE at the limit of descriptors.
[[nodiscard]] int restrict_files(const std::vector<std::string>& folders);

}  // namespace nitro::proc
