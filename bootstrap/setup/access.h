// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "nitro/result.h"

namespace nitro::setup {

/// Lets the members of the group `ne`, and `user` as one of them, run enclaves: the group, the owner of the device now
/// and at every later start, the folders for sockets and logs. Each step leaves what is right already, so a run that
/// was interrupted can be repeated. Needs root, or `root` in front of all paths.
///
/// `is_cancelled`  asked between the steps.
/// Returns whether the user was not in the group before. Errors: kFileOperation, kProcessSpawn.
Result<bool> give_access(const std::string& root, const std::optional<std::string>& user,
                         const std::function<bool()>& is_cancelled);

/// The user for give_access(): the one who called sudo(8), or whose process this is; nothing for root.
/// Errors: kFileOperation when this user is not known.
Result<std::optional<std::string>> calling_user();

}  // namespace nitro::setup
