// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "eif/image/credentials.h"

namespace nitro::image {

/// Time limit for a helper: it may ask a person to unlock something.
inline constexpr std::chrono::seconds kHelperTimeout{60};

/// Asks docker's credential helper `name` for the login at `server`: runs the program docker-credential-NAME, found in
/// PATH, with the argument "get", the server on stdin and JSON on stdout; its stderr is ours. Returns nullopt if it has
/// no such login. Errors: kDockerImagePull when it cannot be started, fails, takes longer than `timeout` (it is then
/// killed), or answers anything else.
Result<std::optional<Credentials>> ask_credential_helper(const std::string& name, const std::string& server,
                                                         std::chrono::milliseconds timeout = kHelperTimeout);

}  // namespace nitro::image
