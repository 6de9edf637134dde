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

  /// Connects to the engine at `address`, in the form of DOCKER_HOST: unix://PATH, tcp://HOST[:PORT]. Uses TLS unless
  /// `tls_folder` is empty: that holds ca.pem, the only trusted authority, and our cert.pem and key.pem. Errors:
  /// kDockerImagePull when nothing answers there.
  static Result<Engine> at(const std::string& address, const std::string& tls_folder);
  /// Finds the engine: that of DOCKER_HOST (with TLS if DOCKER_TLS_VERIFY is set, keys in DOCKER_CERT_PATH or docker's
  /// own folder); else that of docker's current context; else the first that answers on an existing socket of Docker or
  /// Podman (the user's, then the system's). Returns nullopt if none of these is set up. Errors: kDockerImagePull when
  /// an engine is set up but none answers, with every address that was tried and what to do.
  static Result<std::optional<Engine>> find();
  /// The same, but an engine is required. Errors: also kDockerImagePull when none is set up.
  static Result<Engine> find_any();

  [[nodiscard]] const std::string& address() const { return address_; }

  /// Returns the answer of GET /images/NAME/json, or nullopt if the engine does not have the image. Errors:
  /// kDockerImagePull.
  Result<std::optional<nlohmann::ordered_json>> inspect(const std::string& name) const;
  /// Makes the engine pull the image for linux and `architecture`, with the stored login for its registry. Errors:
  /// kDockerImagePull with the engine's reason.
  Result<void> pull(const std::string& name, const std::string& architecture, const Listener& listener) const;
  /// Makes the engine build `context`, a tar archive with a Dockerfile, for linux and `architecture`, under the name
  /// `name`. Passes on the stored logins for the base images of the Dockerfile. Errors: kDockerImageBuild with the
  /// engine's reason and the last lines that the build printed; those of `context`.
  Result<void> build(http::BodySource context, const std::string& name, const std::string& architecture,
                     const Listener& listener) const;
  /// Opens the image as saved by the engine, in an unnamed file, because its table of contents comes last. Exporting a
  /// container would yield the same files, but leave a container behind if this process is killed. Errors:
  /// kDockerImagePull; those of read_docker_archive.
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
