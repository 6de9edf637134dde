// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "eif/kms/credentials.h"
#include "eif/kms/environment.h"
#include "nitro/result.h"

namespace nitro::kms {

/// Returns the credentials from the endpoint of a container service (ECS, EKS Pod Identity):
/// AWS_CONTAINER_CREDENTIALS_RELATIVE_URI on 169.254.170.2, else AWS_CONTAINER_CREDENTIALS_FULL_URI, with the token of
/// AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE or AWS_CONTAINER_AUTHORIZATION_TOKEN. As in the AWS SDKs, a full URI must be
/// https, or name this machine or an address of those services: nobody else may get the token. Returns nullopt if
/// neither variable is set. Errors: kSigning.
Result<std::optional<Credentials>> container_credentials(const Environment& environment);

/// Returns the credentials of this EC2 instance's role, from its metadata service (version 2 only) at 169.254.169.254,
/// or where AWS_EC2_METADATA_SERVICE_ENDPOINT or AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE (IPv4, IPv6) say. Gives up
/// after a second without a connection, because the service exists only on EC2. Errors: kSigning.
Result<Credentials> instance_credentials(const Environment& environment);

}  // namespace nitro::kms
