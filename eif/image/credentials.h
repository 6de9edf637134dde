// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "nitro/result.h"

namespace nitro::image {

struct Credentials {
  std::string user;
  std::string password;
};

/// What `docker login HOST` or `podman login HOST` has stored: in $DOCKER_CONFIG/config.json (or the file DOCKER_CONFIG
/// names), in $REGISTRY_AUTH_FILE, $XDG_RUNTIME_DIR/containers/auth.json, ~/.docker/config.json. Credential helpers
/// (credsStore, credHelpers) are not asked. Nothing when there are none; a file that cannot be understood is an error
/// (kDockerImagePull).
Result<std::optional<Credentials>> stored_credentials(std::string_view host);

/// The same from the text of one such file.
Result<std::optional<Credentials>> credentials_in(std::string_view config, std::string_view host);

[[nodiscard]] std::string to_base64(std::string_view text);
/// Nothing when `text` is no base64.
[[nodiscard]] std::optional<std::string> from_base64(std::string_view text);

}  // namespace nitro::image
