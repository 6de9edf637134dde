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

/// A login at a registry: a name and a password, or instead an identity token, which the registry's token server
/// exchanges for access tokens.
struct Credentials {
  std::string user;
  Secret password;
  Secret identity_token;
};

/// The login found for a registry.
struct StoredLogin {
  std::optional<Credentials> credentials;
  std::string problem;  ///< why the responsible credential helper failed; a sentence, or empty
};

/// Returns the login stored by `docker login HOST` or `podman login HOST`: in $DOCKER_CONFIG/config.json (or the file
/// that DOCKER_CONFIG names), else in $REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json,
/// ~/.docker/config.json. Asks the credential helpers that these files name (credHelpers, credsStore). A missing login
/// is not an error; neither is a helper that fails, as most images need no login. Errors: kDockerImagePull for a
/// malformed file.
Result<StoredLogin> stored_login(std::string_view host, std::string_view repository);

/// Returns every registry for which docker's own file (config.json) has a login or a helper, by its name there.
Result<std::vector<std::string>> registries_with_logins();

/// Asks the credential helper `name` for `server`. Returns nullopt if it has no such login.
using AskHelper = std::function<Result<std::optional<Credentials>>(const std::string& name, const std::string& server)>;

/// Like stored_login, from the text of one file.
Result<StoredLogin> login_in(std::string_view config, std::string_view host, std::string_view repository,
                             const AskHelper& ask_helper);

/// Returns docker.io for "https://index.docker.io/v1/", registry.example.com for "https://registry.example.com".
[[nodiscard]] std::string_view registry_host(std::string_view key);
/// Returns docker's name for the registry `host` in its files and in requests to helpers and engines: Docker Hub has a
/// special one.
[[nodiscard]] std::string registry_key(std::string_view host);

}  // namespace nitro::image
