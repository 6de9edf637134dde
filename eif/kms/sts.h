// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "eif/kms/credentials.h"
#include "eif/kms/environment.h"
#include "eif/kms/key_arn.h"
#include "nitro/result.h"
#include "src/base/secret.h"

namespace nitro::kms {

/// A role to assume.
struct Role {
  std::string arn;
  std::string session_name;  ///< our name in the logs of AWS; empty: "nitro-cli"
  std::string external_id;   ///< empty: the role requires none
};

/// Returns credentials for an hour from AWS STS in the region of `key`: calls AssumeRole with the credentials `by`.
/// Errors: kSigning.
Result<Credentials> assume_role(const Environment& environment, const KeyArn& key, const Role& role,
                                const Credentials& by);
/// The same for the holder of `token`, issued by an identity provider that the role trusts (OpenID Connect).
Result<Credentials> assume_role_with_web_identity(const Environment& environment, const KeyArn& key, const Role& role,
                                                  const Secret& token);

/// Parses the credentials in an answer of AWS STS, which is XML. Errors: kSigning; the message begins with `source` and
/// contains nothing of `answer`.
Result<Credentials> credentials_in_answer(const Secret& answer, const std::string& source);

}  // namespace nitro::kms
