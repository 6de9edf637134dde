// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nitro/result.h"

namespace nitro::proxy {

/// One service of the allowlist.
struct AllowedService {
  std::string address;  ///< a name or an IP address, as written
  std::uint16_t port = 0;
};

/// The allowlist of the AWS tool, /etc/nitro_enclaves/vsock-proxy.yaml:
///
///   allowlist:
///   - {address: kms.eu-central-1.amazonaws.com, port: 443}
///
/// The AWS tool looks at the services in their order and stops at the first that matches. So here too a faulty entry
/// only matters if none before it matches.
struct Allowlist {
  std::vector<AllowedService> services;  ///< those before the first faulty one
  std::optional<Error> fault;            ///< of the first faulty one
};

/// Errors: kFileOperation when the file cannot be read; kInvalidArgument when it is not YAML or has no allowlist.
Result<Allowlist> load_allowlist(const std::string& path);

}  // namespace nitro::proxy
