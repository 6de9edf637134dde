// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "eif/image/credentials.h"

namespace nitro::image {

/// How long a helper may take: it may ask a person to unlock something.
inline constexpr std::chrono::seconds kHelperTimeout{60};

/// Asks docker's credential helper `name` for the login at `server`: the program docker-credential-NAME, found in PATH,
/// with the word "get", the server on its stdin and JSON on its stdout; what it says on stderr reaches ours. Nothing
/// when it has no such login. Errors: kDockerImagePull when it cannot be started, fails, takes longer than `timeout`
/// (it is killed then), or answers something else.
Result<std::optional<Credentials>> ask_credential_helper(const std::string& name, const std::string& server,
                                                         std::chrono::milliseconds timeout = kHelperTimeout);

}  // namespace nitro::image
