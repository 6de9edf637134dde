// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nitro/result.h"

namespace nitro::image {

/// Where docker's command line keeps its settings: the folder that DOCKER_CONFIG names (or that the file it names lies
/// in), else ~/.docker; empty without a home.
[[nodiscard]] std::string docker_folder();
/// config.json in that folder, or the file that DOCKER_CONFIG names: the reference takes it for a file, docker for a
/// folder, and both are understood.
[[nodiscard]] std::string docker_config_file();

/// The engine of docker's current context (`docker context use`, or DOCKER_CONTEXT).
struct EngineEndpoint {
  std::string address;     ///< unix://…, tcp://…
  std::string tls_folder;  ///< with ca.pem, cert.pem, key.pem; empty: no TLS
};
/// Nothing when the context is the default one. Errors: kDockerImagePull when there is no such context, or its file or
/// config.json cannot be understood.
Result<std::optional<EngineEndpoint>> current_context();

}  // namespace nitro::image
