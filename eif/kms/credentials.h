// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <ctime>
#include <optional>
#include <string>
#include <string_view>

#include "nitro/result.h"
#include "src/base/secret.h"
#include "src/http/http.h"

namespace nitro::kms {

/// The identity that requests to AWS are signed with.
struct Credentials {
  std::string access_key_id;
  Secret secret_access_key;
  Secret session_token;                ///< empty for credentials that do not end
  std::optional<std::time_t> expires;  ///< seconds since 1970
  std::string source;                  ///< where they are from, for messages: "the environment"
};

/// How a request by these credentials is signed.
[[nodiscard]] http::AwsSignature signature_of(const Credentials& credentials, std::string region, std::string service);

/// Credentials as a JSON object, which is what metadata services and the programs of credential_process speak:
/// AccessKeyId, SecretAccessKey, Token or SessionToken, Expiration (RFC 3339). Errors: kSigning; the message begins
/// with `source` and holds nothing of `text`.
Result<Credentials> credentials_in(const Secret& text, const std::string& source);

/// `credentials`, if they are complete and can be sent. Errors: kSigning, as above.
Result<Credentials> checked(Credentials credentials);

}  // namespace nitro::kms
