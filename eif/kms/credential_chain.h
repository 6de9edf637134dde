// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "eif/kms/credentials.h"
#include "eif/kms/environment.h"
#include "eif/kms/key_arn.h"
#include "nitro/result.h"

namespace nitro::kms {

/// Returns the credentials of the first of these sources that is set up, in the order of the AWS SDKs:
///   1. the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN;
///   2. the profile (see profile.h): its keys; the role of role_arn, assumed with the credentials of source_profile or
///      credential_source, or with the token of web_identity_token_file; the output of credential_process;
///   3. a web identity: AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, AWS_ROLE_SESSION_NAME;
///   4. the container's endpoint: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or _FULL_URI;
///   5. the instance's metadata service, version 2, unless AWS_EC2_METADATA_DISABLED is true.
/// A source that is set up but fails ends the search: other credentials could be someone else's. So does one that needs
/// what this program does not support: single sign-on, a second factor. `key` gives the region of the AWS STS that is
/// asked for roles. Errors: kSigning; the message says what to do and contains no secret.
Result<Credentials> find_credentials(const Environment& environment, const KeyArn& key);

}  // namespace nitro::kms
