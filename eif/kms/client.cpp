// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/client.h"

#include <fmt/format.h>

#include <utility>

#include "eif/kms/credential_chain.h"
#include "eif/kms/service.h"
#include "src/base/bytes.h"
#include "src/base/json.h"

namespace nitro::kms {

namespace {

// Credentials that expire sooner are not worth a request.
constexpr std::time_t kLastSeconds = 30;

Refusal refusal_in(const std::string& body) {
  const auto document = parse_json(body, ErrorCode::kSigning);
  if (!document) return {};
  Refusal refusal{text_at(*document, "__type"), text_at(*document, "message")};
  if (refusal.message.empty()) refusal.message = text_at(*document, "Message");
  // "com.amazonaws.kms#NotFoundException"
  refusal.type.erase(0, refusal.type.find('#') + 1);
  return refusal;
}

}  // namespace

Result<nlohmann::ordered_json> Client::call(const char* action, nlohmann::json parameters) {
  if (!credentials_ || (credentials_->expires && *credentials_->expires < environment_.now() + kLastSeconds)) {
    NITRO_TRY(credentials_, find_credentials(environment_, key_));
  }
  parameters["KeyId"] = key_.text;
  http::Request request;
  request.method = "POST";
  request.url = endpoint("kms", key_, environment_) + "/";
  request.headers = {"Content-Type: application/x-amz-json-1.1", fmt::format("X-Amz-Target: TrentService.{}", action)};
  request.body = parameters.dump();
  request.aws_signature = signature_of(*credentials_, key_.region, "kms");
  const auto step = fmt::format("asking AWS KMS for {} with the key {}", action, quote(key_.text));
  NITRO_TRY(const auto body, ask_service(environment_, std::move(request),
                                         {.step = step, .source = credentials_->source, .read_refusal = refusal_in}));
  auto answer = parse_json(body.text(), ErrorCode::kSigning);
  if (answer && answer->is_object()) return answer;
  return fail(ErrorCode::kSigning, step + ": the answer is not a JSON object");
}

Result<PublicKey> Client::public_key() {
  NITRO_TRY(const auto answer, call("GetPublicKey", nlohmann::json::object()));
  PublicKey key{.spec = text_at(answer, "KeySpec"), .usage = text_at(answer, "KeyUsage"), .der = {}};
  if (key.spec.empty()) key.spec = text_at(answer, "CustomerMasterKeySpec");  // its older name
  const auto der = http::from_base64(text_at(answer, "PublicKey"));
  if (!der || der->empty()) return fail(ErrorCode::kSigning, "AWS KMS gives no public key of " + quote(key_.text));
  const auto bytes = as_bytes(*der);
  key.der.assign(bytes.begin(), bytes.end());
  return key;
}

Result<std::vector<std::byte>> Client::sign(std::string_view algorithm, std::span<const std::byte> digest) {
  NITRO_TRY(const auto answer, call("Sign", {{"Message", http::to_base64(as_text(digest))},
                                             {"MessageType", "DIGEST"},
                                             {"SigningAlgorithm", algorithm}}));
  const auto signature = http::from_base64(text_at(answer, "Signature"));
  if (!signature || signature->empty()) {
    return fail(ErrorCode::kSigning, "AWS KMS gives no signature of " + quote(key_.text));
  }
  const auto bytes = as_bytes(*signature);
  return std::vector(bytes.begin(), bytes.end());
}

}  // namespace nitro::kms
