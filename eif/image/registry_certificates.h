// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "nitro/result.h"

namespace nitro::image {

/// The TLS files kept for one registry, in the layout of docker and podman.
struct RegistryCertificates {
  std::string authorities;              ///< PEM, trusted besides the system's; may be empty
  std::string client_certificate_file;  ///< empty: none
  std::string client_key_file;
};

/// Returns the folders that have a folder per registry: $XDG_CONFIG_HOME/docker/certs.d, …/containers/certs.d,
/// /etc/docker/certs.d, /etc/containers/certs.d.
[[nodiscard]] std::vector<std::string> certificate_folders();

/// Reads *.crt (authorities) and NAME.cert with NAME.key (our certificate) from FOLDER/HOST for each of `folders`; of
/// several certificates, the first in the order of folders and names is used. `host` may have a port. Errors:
/// kDockerImagePull when one of these files cannot be read, or a certificate has no key.
Result<RegistryCertificates> registry_certificates(const std::string& host, const std::vector<std::string>& folders);

}  // namespace nitro::image
