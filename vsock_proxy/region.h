// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "nitro/result.h"

namespace nitro::proxy {

/// Returns the region of this EC2 instance, "eu-central-1", from its metadata service (version 2); AWS_REGION, if set,
/// takes its place. Errors: kInvalidArgument when neither says, with what to do.
Result<std::string> instance_region();

}  // namespace nitro::proxy
