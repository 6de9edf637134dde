// SPDX-License-Identifier: Apache-2.0
#include "eif/image/docker_config.h"

#include <unistd.h>

#include "eif/image/digest.h"
#include "eif/image/source.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/environment.h"
#include "src/runtime/directories.h"

namespace nitro::image {

namespace {

Result<nlohmann::ordered_json> read_json(const std::string& path) {
  auto text = read_text_file(path);
  if (!text) return Failure(std::move(text).error().as(ErrorCode::kDockerImagePull));
  auto json = parse_document(*text, quote(path));
  if (!json) return Failure(std::move(json).error().as(ErrorCode::kDockerImagePull));
  return json;
}

Result<std::string> name_of_current_context() {
  if (auto name = environment_variable("DOCKER_CONTEXT")) return *std::move(name);
  const auto file = docker_config_file();
  if (::access(file.c_str(), R_OK) != 0) return std::string();
  NITRO_TRY(const auto config, read_json(file));
  return text_at(config, "currentContext");
}

}  // namespace

std::string docker_folder() {
  if (const auto config = environment_variable("DOCKER_CONFIG")) {
    if (is_folder(*config)) return *config;
    const auto slash = config->rfind('/');
    return slash == std::string::npos ? "." : config->substr(0, slash);
  }
  const auto home = environment_variable("HOME");
  return home ? *home + "/.docker" : std::string();
}

std::string docker_config_file() {
  if (const auto config = environment_variable("DOCKER_CONFIG"); config && !is_folder(*config)) return *config;
  const auto folder = docker_folder();
  return folder.empty() ? std::string() : folder + "/config.json";
}

// docker's layout: contexts/meta/SHA256-OF-THE-NAME/meta.json, contexts/tls/SHA256-OF-THE-NAME/docker/*.pem.
Result<std::optional<EngineEndpoint>> current_context() {
  using Endpoint = std::optional<EngineEndpoint>;
  NITRO_TRY(const auto name, name_of_current_context());
  if (name.empty() || name == "default") return Endpoint();
  const auto contexts = docker_folder() + "/contexts/";
  const auto digest = sha256(as_bytes(name));
  const auto id = digest.substr(digest.find(':') + 1);
  auto meta = read_json(contexts + "meta/" + id + "/meta.json");
  if (!meta) return fail_within("docker's context " + quote(name), std::move(meta).error());
  EngineEndpoint endpoint;
  if (const auto* endpoints = value_at(*meta, "Endpoints"); endpoints != nullptr) {
    if (const auto* docker = value_at(*endpoints, "docker"); docker != nullptr) {
      endpoint.address = text_at(*docker, "Host");
    }
  }
  if (endpoint.address.empty()) {
    return fail(ErrorCode::kDockerImagePull, "docker's context " + quote(name) + " names no engine");
  }
  if (const auto tls = contexts + "tls/" + id + "/docker"; is_folder(tls)) endpoint.tls_folder = tls;
  return Endpoint(std::move(endpoint));
}

}  // namespace nitro::image
