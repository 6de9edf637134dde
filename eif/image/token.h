// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "eif/image/credentials.h"
#include "src/base/secret.h"
#include "src/http/http.h"

namespace nitro::image {

/// One of the authentication methods that a WWW-Authenticate header offers:
/// `Bearer realm="https://auth.example.com/token",service="…",scope="…"`.
struct Challenge {
  std::string scheme;  ///< lower case
  std::map<std::string, std::string> parameters;
  [[nodiscard]] std::string parameter(const std::string& key) const;
};
/// Parses the header, which may offer several methods.
[[nodiscard]] std::vector<Challenge> parse_challenges(std::string_view header);

/// Returns "Authorization: Basic …".
[[nodiscard]] Secret basic_authorization(const Credentials& credentials);

/// Gets a token for pulling from `repository` from the server that a "bearer" challenge names ("Distribution registry
/// v2 authentication"): anonymously, with a name and password, or in exchange for an identity token (OAuth 2). `base`
/// has the settings for the request: TLS, timeouts, whether plain HTTP is allowed. Returns "Authorization: Bearer …".
/// Errors: kDockerImagePull.
Result<Secret> bearer_authorization(const Challenge& challenge, const std::string& repository,
                                    const std::optional<Credentials>& credentials, const http::Request& base);

/// Returns the token in a token server's answer: {"token":"…"}, or "access_token" as in OAuth 2. Errors:
/// kDockerImagePull when there is none that a header can hold.
Result<Secret> token_in(const Secret& answer);

/// Returns the reason that a registry or a token server gives for a refusal:
/// {"errors":[{"code":"MANIFEST_UNKNOWN","message":"…"}]}, else its status.
[[nodiscard]] std::string registry_reason(const http::Response& response);

}  // namespace nitro::image
