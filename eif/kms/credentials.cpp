// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/credentials.h"

#include <algorithm>
#include <utility>

#include "src/base/json.h"
#include "src/base/rfc3339.h"

namespace nitro::kms {

namespace {

Failure refuse(std::string message) {
  return fail(ErrorCode::kSigning, std::move(message));
}

// Moves the text out of the document, which is not wiped.
Secret take_text(nlohmann::ordered_json& document, const char* key) {
  const auto found = document.find(key);
  if (found == document.end() || !found->is_string()) return {};
  return Secret(std::move(found->get_ref<std::string&>()));
}

// Whether a text can be part of a header.
bool is_one_word(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

}  // namespace

Result<Credentials> checked(Credentials credentials) {
  if (credentials.access_key_id.empty() || credentials.secret_access_key.empty()) {
    return refuse(credentials.source + ": either the access key ID or the secret access key is missing");
  }
  if (!is_one_word(credentials.access_key_id) || !is_one_word(credentials.secret_access_key.text()) ||
      !is_one_word(credentials.session_token.text())) {
    return refuse(credentials.source + ": there are characters in it that AWS credentials never have");
  }
  return credentials;
}

http::AwsSignature signature_of(const Credentials& credentials, std::string region, std::string service) {
  return {.region = std::move(region),
          .service = std::move(service),
          .access_key_id = credentials.access_key_id,
          .secret_access_key = credentials.secret_access_key,
          .session_token = credentials.session_token};
}

Result<Credentials> credentials_in(const Secret& text, const std::string& source) {
  auto document = parse_json(text.text(), ErrorCode::kSigning);
  if (!document || !document->is_object()) return refuse(source + ": the answer is not a JSON object");
  auto token = take_text(*document, "Token");
  if (token.empty()) token = take_text(*document, "SessionToken");
  return checked({.access_key_id = take_text(*document, "AccessKeyId").text(),
                  .secret_access_key = take_text(*document, "SecretAccessKey"),
                  .session_token = std::move(token),
                  .expires = parse_rfc3339(take_text(*document, "Expiration").text()),
                  .source = source});
}

}  // namespace nitro::kms
