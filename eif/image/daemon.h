// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "eif/image/engine_report.h"
#include "eif/image/source.h"
#include "src/http/http.h"

namespace nitro::image {

/// A container engine that speaks Docker's Engine API: Docker, or Podman's service.
class Engine {
 public:
  using Listener = EngineReport::Listener;

  /// The engine at `address`, as DOCKER_HOST has it: unix://PATH, tcp://HOST[:PORT]. With TLS when `tls_folder` is not
  /// empty: there are ca.pem, the only authority that is trusted, and our cert.pem and key.pem. Errors:
  /// kDockerImagePull when nobody answers there.
  static Result<Engine> at(const std::string& address, const std::string& tls_folder);
  /// The engine that DOCKER_HOST names (with TLS when DOCKER_TLS_VERIFY is set, keys in DOCKER_CERT_PATH or docker's
  /// own folder); without it that of docker's current context; without one the first that answers of those whose
  /// sockets are there: Docker's and Podman's (the user's, then the system's). Nothing when none of this is the case.
  /// Errors: kDockerImagePull when there is an engine to be asked but none answers, with every address that was tried
  /// and what to do.
  static Result<std::optional<Engine>> find();
  /// The same, where there has to be an engine. Errors: also kDockerImagePull when none is set up.
  static Result<Engine> find_any();

  [[nodiscard]] const std::string& address() const { return address_; }

  /// What GET /images/NAME/json says; nothing when the engine does not have the image. Errors: kDockerImagePull.
  Result<std::optional<nlohmann::ordered_json>> inspect(const std::string& name) const;
  /// Has the engine fetch the image for linux and `architecture`, with the stored login for its registry. Errors:
  /// kDockerImagePull with the engine's reason.
  Result<void> pull(const std::string& name, const std::string& architecture, const Listener& listener) const;
  /// Has the engine build `context`, a tar archive with a Dockerfile in it, for linux and `architecture`, and call the
  /// result `name`. It is given the stored logins for the images that the Dockerfile begins with. Errors:
  /// kDockerImageBuild with the engine's reason and the last lines that the build printed; those of `context`.
  Result<void> build(http::BodySource context, const std::string& name, const std::string& architecture,
                     const Listener& listener) const;
  /// The image as the engine saves it, through an unnamed file, as its table of contents comes last. An export of a
  /// container would give the same files, but leave a container behind when we are killed. Errors: kDockerImagePull;
  /// what read_docker_archive has.
  Result<ImageSource> open(const std::string& name, const SourceOptions& options, Budget& budget) const;

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
