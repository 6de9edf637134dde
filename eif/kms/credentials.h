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

/// The identity that signs requests to AWS.
struct Credentials {
  std::string access_key_id;
  Secret secret_access_key;
  Secret session_token;                ///< empty for permanent credentials
  std::optional<std::time_t> expires;  ///< seconds since 1970
  std::string source;                  ///< their source, for messages: "the environment"
};

/// Returns the signature settings for a request with these credentials.
[[nodiscard]] http::AwsSignature signature_of(const Credentials& credentials, std::string region, std::string service);

/// Parses credentials in the JSON form of metadata services and of the programs of credential_process: AccessKeyId,
/// SecretAccessKey, Token or SessionToken, Expiration (RFC 3339). Errors: kSigning; the message begins with `source`
/// and contains nothing of `text`.
Result<Credentials> credentials_in(const Secret& text, const std::string& source);

/// Returns `credentials` if they are complete and can be sent. Errors: kSigning, as above.
Result<Credentials> checked(Credentials credentials);

}  // namespace nitro::kms
