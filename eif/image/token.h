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

/// One of the ways to be let in that a WWW-Authenticate header offers:
/// `Bearer realm="https://auth.example.com/token",service="…",scope="…"`.
struct Challenge {
  std::string scheme;  ///< lower case
  std::map<std::string, std::string> parameters;
  [[nodiscard]] std::string parameter(const std::string& key) const;
};
/// Takes the header apart; one may offer several ways.
[[nodiscard]] std::vector<Challenge> parse_challenges(std::string_view header);

/// "Authorization: Basic …".
[[nodiscard]] Secret basic_authorization(const Credentials& credentials);

/// Gets a token for pulling from `repository` from the server that a "bearer" challenge names ("Distribution registry
/// v2 authentication"): anonymously, with a name and password, or in exchange for an identity token (OAuth 2). `base`
/// says how to speak to it: TLS, timeouts, whether plain HTTP is allowed. Returns "Authorization: Bearer …". Errors:
/// kDockerImagePull.
Result<Secret> bearer_authorization(const Challenge& challenge, const std::string& repository,
                                    const std::optional<Credentials>& credentials, const http::Request& base);

/// The token in a token server's answer: {"token":"…"}, or "access_token" as OAuth 2 has it. Errors: kDockerImagePull
/// when there is none that can stand in a header.
Result<Secret> token_in(const Secret& answer);

/// What a registry or a token server says of a refusal: {"errors":[{"code":"MANIFEST_UNKNOWN","message":"…"}]}, else
/// its status.
[[nodiscard]] std::string registry_reason(const http::Response& response);

}  // namespace nitro::image
