// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "eif/image/source.h"
#include "nitro/http.h"

namespace nitro::image {

/// A container engine that speaks Docker's Engine API: Docker, or Podman's service.
class Engine {
 public:
  /// Called with what the engine says while it pulls or builds, a line at a time.
  using Listener = std::function<void(std::string_view line)>;

  /// The engine at `address`, as DOCKER_HOST has it: unix://PATH, tcp://HOST:PORT (with TLS when DOCKER_TLS_VERIFY is
  /// set, keys in DOCKER_CERT_PATH or ~/.docker). Errors: kDockerImagePull when nobody answers there.
  static Result<Engine> at(const std::string& address);
  /// The engine that DOCKER_HOST names; without it the first that answers of Docker's socket and Podman's (the user's,
  /// then the system's). Errors: kDockerImagePull, with every address that was tried.
  static Result<Engine> find();

  [[nodiscard]] const std::string& address() const { return address_; }

  /// What GET /images/NAME/json says; nothing when the engine does not have the image. Errors: kDockerImagePull.
  Result<std::optional<nlohmann::ordered_json>> inspect(const std::string& name) const;
  /// Has the engine fetch the image, with stored credentials for its registry. Errors: kDockerImagePull with the
  /// engine's reason.
  Result<void> pull(const std::string& name, const Listener& listener) const;
  /// Has the engine build `context`, a tar archive with a Dockerfile in it, and call the result `name`. Errors:
  /// kDockerImageBuild with the engine's reason.
  Result<void> build(const Extent& context, const std::string& name, const Listener& listener) const;
  /// The image as the engine saves it, through an unnamed file, as its table of contents comes last. An export of a
  /// container would give the same files, but leave a container behind when we are killed. Errors: kDockerImagePull;
  /// what read_docker_archive has.
  Result<ImageSource> open(const std::string& name) const;

 private:
  Engine() = default;
  [[nodiscard]] http::Request request(const std::string& path) const;
  Result<void> listen(http::Request request, ErrorCode code, const Listener& listener) const;

  std::string address_;
  std::string unix_socket_;
  std::string base_url_;
  std::string tls_folder_;  // empty: no TLS
};

}  // namespace nitro::image
