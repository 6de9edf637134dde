// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "nitro/result.h"

namespace nitro::image {

/// Returns the folder with the settings of docker's command line: the one that DOCKER_CONFIG names (or that contains
/// the file it names), else ~/.docker; empty without a home.
[[nodiscard]] std::string docker_folder();
/// Returns config.json in that folder, or the file that DOCKER_CONFIG names: for the reference it is a file, for docker
/// a folder, and both are accepted.
[[nodiscard]] std::string docker_config_file();

/// The engine of docker's current context (`docker context use`, or DOCKER_CONTEXT).
struct EngineEndpoint {
  std::string address;     ///< unix://…, tcp://…
  std::string tls_folder;  ///< with ca.pem, cert.pem, key.pem; empty: no TLS
};
/// Returns nullopt if the context is the default one. Errors: kDockerImagePull when there is no such context, or when
/// its file or config.json is malformed.
Result<std::optional<EngineEndpoint>> current_context();

}  // namespace nitro::image
