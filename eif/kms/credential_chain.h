// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "eif/kms/credentials.h"
#include "eif/kms/environment.h"
#include "eif/kms/key_arn.h"
#include "nitro/result.h"

namespace nitro::kms {

/// The credentials of the first of these places that is set up, in the order of the AWS SDKs:
///   1. the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN;
///   2. the profile (see profile.h): keys that stand in it; the role of role_arn, taken on with the credentials of
///      source_profile or credential_source, or with the token of web_identity_token_file; what credential_process
///      prints;
///   3. a web identity: AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, AWS_ROLE_SESSION_NAME;
///   4. the container's endpoint: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI;
///   5. the instance's metadata service, version 2, unless AWS_EC2_METADATA_DISABLED is true.
/// A place that is set up but does not give any ends the search: other credentials could be those of somebody else. So
/// does one that takes what this program does not do: single sign-on, a second factor.
/// `key` says which region's AWS STS is asked for roles. Errors: kSigning, the message says what to do; no secret is in
/// it.
Result<Credentials> find_credentials(const Environment& environment, const KeyArn& key);

}  // namespace nitro::kms
