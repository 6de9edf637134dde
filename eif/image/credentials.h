// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nitro/result.h"
#include "src/base/secret.h"

namespace nitro::image {

/// A login at a registry: a name and a password, or an identity token in their place, which its token server exchanges
/// for the tokens that the registry takes.
struct Credentials {
  std::string user;
  Secret password;
  Secret identity_token;
};

/// What was found for a registry.
struct StoredLogin {
  std::optional<Credentials> credentials;
  std::string problem;  ///< why a credential helper that is responsible could not be asked; a sentence, or empty
};

/// What `docker login HOST` or `podman login HOST` has stored: in $DOCKER_CONFIG/config.json (or the file DOCKER_CONFIG
/// names), else in $REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json, ~/.docker/config.json. Credential
/// helpers that these files name (credHelpers, credsStore) are asked. No login is a success; so is a helper that fails,
/// as most images need no login. Errors: kDockerImagePull for a file that cannot be understood.
Result<StoredLogin> stored_login(std::string_view host, std::string_view repository);

/// Every registry that docker's own file (config.json) has a login or a helper for, as it is called there.
Result<std::vector<std::string>> registries_with_logins();

/// Asks the credential helper `name` for `server`. Nothing when it has no such login.
using AskHelper = std::function<Result<std::optional<Credentials>>(const std::string& name, const std::string& server)>;

/// As stored_login, from the text of one file.
Result<StoredLogin> login_in(std::string_view config, std::string_view host, std::string_view repository,
                             const AskHelper& ask_helper);

/// "https://index.docker.io/v1/" is docker.io; "https://registry.example.com" is registry.example.com.
[[nodiscard]] std::string_view registry_host(std::string_view key);
/// What docker calls the registry `host` in its files and towards helpers and engines: Docker Hub has a name of its
/// own.
[[nodiscard]] std::string registry_key(std::string_view host);

}  // namespace nitro::image
