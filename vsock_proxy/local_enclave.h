// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "nitro/result.h"
#include "vsock_proxy/service/opening.h"

namespace nitro::proxy {

/// Finds a running local enclave by its name or ID. Errors: kEnclaveNaming when there is none, or more than one;
/// kInvalidArgument when it is not a local one; those of the sockets folders.
Result<LocalEnclave> find_local_enclave(const std::string& name_or_id);

}  // namespace nitro::proxy
