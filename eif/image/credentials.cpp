// SPDX-License-Identifier: Apache-2.0
#include "eif/image/credentials.h"

#include <unistd.h>

#include <algorithm>

#include "eif/image/credential_helper.h"
#include "eif/image/docker_config.h"
#include "eif/image/secret_document.h"
#include "eif/image/source.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/environment.h"
#include "src/http/http.h"

namespace nitro::image {

namespace {

// The key of Docker Hub, which dates from an older protocol.
constexpr std::string_view kDockerHub = "docker.io";
constexpr std::string_view kDockerHubKey = "https://index.docker.io/v1/";

using Json = nlohmann::ordered_json;

std::vector<std::string> login_files() {
  if (environment_variable("DOCKER_CONFIG")) return {docker_config_file()};
  std::vector<std::string> files;
  if (const auto file = environment_variable("REGISTRY_AUTH_FILE")) files.push_back(*file);
  if (const auto folder = environment_variable("XDG_RUNTIME_DIR")) files.push_back(*folder + "/containers/auth.json");
  if (const auto file = docker_config_file(); !file.empty()) files.push_back(file);
  return files;
}

Result<Json> parse_logins(std::string_view config) {
  auto json = parse_document(config, "the file of registry credentials");
  if (!json) return Failure(std::move(json).error().as(ErrorCode::kDockerImagePull));
  return json;
}

// Returns how well a key of "auths" matches; 0 means not at all. Docker's keys are hosts, formerly URLs; Podman's may
// be a host and the beginning of a repository, and the longest match wins.
std::size_t fitness(std::string_view key, std::string_view host, std::string_view repository) {
  if (registry_host(key) != host) return 0;
  const auto slash = key.find('/');
  if (slash == std::string_view::npos || key.find("://") != std::string_view::npos) return 1;
  const auto path = key.substr(slash + 1);
  const bool inside =
      repository.starts_with(path) && (repository.size() == path.size() || repository[path.size()] == '/');
  return path.empty() ? 1 : inside ? 1 + path.size() : 0;
}

Result<std::optional<Credentials>> login_of_entry(const Json& entry, std::string_view host) {
  Credentials credentials;
  credentials.identity_token = Secret(text_at(entry, "identitytoken"));
  if (const Secret encoded(text_at(entry, "auth")); !encoded.empty()) {
    const Secret decoded(http::from_base64(encoded.text()).value_or(""));
    const auto colon = decoded.text().find(':');
    if (colon == std::string::npos) {
      return fail(ErrorCode::kDockerImagePull,
                  "the stored credentials for " + quote(host) + " are damaged; log in again");
    }
    credentials.user = decoded.text().substr(0, colon);
    credentials.password = Secret(decoded.text().substr(colon + 1));
  }
  if (credentials.identity_token.empty() && credentials.user.empty()) return std::optional<Credentials>();
  return std::optional<Credentials>(std::move(credentials));
}

// Returns the helper responsible for the host, or an empty string.
std::string helper_for(const Json& config, std::string_view host) {
  if (const auto* helpers = value_at(config, "credHelpers"); helpers != nullptr && helpers->is_object()) {
    for (const auto& [key, name] : helpers->items()) {
      if (registry_host(key) == host && name.is_string()) return name.get<std::string>();
    }
  }
  return text_at(config, "credsStore");
}

}  // namespace

std::string_view registry_host(std::string_view key) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (key.starts_with(scheme)) key.remove_prefix(scheme.size());
  }
  key = key.substr(0, key.find('/'));
  return key == "index.docker.io" || key == "registry-1.docker.io" ? kDockerHub : key;
}

std::string registry_key(std::string_view host) {
  return std::string(host == kDockerHub ? kDockerHubKey : host);
}

Result<StoredLogin> login_in(std::string_view config, std::string_view host, std::string_view repository,
                             const AskHelper& ask_helper) {
  NITRO_TRY(auto json, parse_logins(config));
  const WipedDocument wiped(json);
  StoredLogin login;
  if (const auto helper = helper_for(json, host); !helper.empty()) {
    auto found = ask_helper(helper, registry_key(host));
    if (!found) {
      login.problem = found.error().message();
    } else if (*found) {
      login.credentials = *std::move(found);
      return login;
    }
  }
  const auto* entries = value_at(json, "auths");
  if (entries == nullptr || !entries->is_object()) return login;
  std::size_t best = 0;
  for (const auto& [key, entry] : entries->items()) {
    const auto fit = fitness(key, host, repository);
    if (fit <= best) continue;
    NITRO_TRY(auto found, login_of_entry(entry, host));
    if (!found) continue;
    best = fit;
    login.credentials = std::move(found);
  }
  return login;
}

Result<StoredLogin> stored_login(std::string_view host, std::string_view repository) {
  StoredLogin none;
  for (const auto& path : login_files()) {
    if (::access(path.c_str(), R_OK) != 0) continue;
    auto read = read_text_file(path);
    if (!read) return Failure(std::move(read).error().as(ErrorCode::kDockerImagePull));
    const Secret text(*std::move(read));
    auto found = login_in(text.text(), host, repository, [](const std::string& name, const std::string& server) {
      return ask_credential_helper(name, server);
    });
    if (!found) return fail_within(quote(path), std::move(found).error());
    if (found->credentials) return found;
    if (none.problem.empty()) none.problem = found->problem;
  }
  return none;
}

Result<std::vector<std::string>> registries_with_logins() {
  std::vector<std::string> keys;
  const auto path = docker_config_file();
  if (path.empty() || ::access(path.c_str(), R_OK) != 0) return keys;
  auto read = read_text_file(path);
  if (!read) return Failure(std::move(read).error().as(ErrorCode::kDockerImagePull));
  const Secret text(*std::move(read));
  auto json = parse_logins(text.text());
  if (!json) return fail_within(quote(path), std::move(json).error());
  const WipedDocument wiped(*json);
  for (const char* section : {"auths", "credHelpers"}) {
    const auto* entries = value_at(*json, section);
    if (entries == nullptr || !entries->is_object()) continue;
    for (const auto& [key, entry] : entries->items()) {
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) keys.push_back(key);
    }
  }
  return keys;
}

}  // namespace nitro::image
