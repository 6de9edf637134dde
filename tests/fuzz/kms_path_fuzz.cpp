// SPDX-License-Identifier: Apache-2.0
// The way to a signature of AWS KMS: from the environment and the shared files through the places that credentials come
// from to the service, with anybody's answers. The network is what stands in for it here, so nothing is sent.
//
// The first byte says what the environment has; then come texts with zero bytes between them: the two shared files, the
// value of a variable, and the answers in their order, each behind a letter for its status. When they are used up the
// connection fails. Errors are of signing and never tell of the environment's secrets, and no answers make us ask
// without end.

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "eif/kms/client.h"
#include "eif/kms/credential_chain.h"
#include "src/base/bytes.h"
#include "src/base/text.h"
#include "src/base/utf8.h"
#include "tests/fuzz/fuzz.h"

using nitro::ErrorCode;
using nitro::Result;
namespace http = nitro::http;
namespace kms = nitro::kms;

namespace {

using nitro::fuzz::require;

constexpr std::string_view kSecret = "hidden-value";
constexpr std::size_t kMaxTexts = 16;
constexpr std::size_t kMostRequests = 200;

std::string cut_text(std::string_view& input) {
  const auto end = input.find('\0');
  std::string text(input.substr(0, end));
  input = end == std::string_view::npos ? std::string_view() : input.substr(end + 1);
  return text;
}

// A shared file must not make us start programs.
bool starts_a_program(const std::string& file) {
  return nitro::to_lower(file).find("credential_process") != std::string::npos;
}

long status_of(char letter) {
  constexpr std::string_view kLetters = "ynetbr";
  constexpr long kStatus[] = {200, 404, 400, 429, 503, 307};
  const auto at = kLetters.find(letter);
  return at == std::string_view::npos ? 200 : kStatus[at];
}

std::string path_of(const nitro::Fd& file) {
  return "/proc/self/fd/" + std::to_string(file.get());
}

void check(const nitro::Error& error) {
  require(error.code() == ErrorCode::kSigning);
  require(!error.message().empty() && nitro::is_plain_text(error.message()));
  require(error.message().find(kSecret) == std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const unsigned set_up = data[0];
  auto input = nitro::as_text(std::as_bytes(std::span(data, size)).subspan(1));
  if (input.find(kSecret) != std::string_view::npos) return 0;  // no secret
  const auto config = cut_text(input);
  const auto shared = cut_text(input);
  const auto value = cut_text(input);
  if (starts_a_program(config) || starts_a_program(shared)) return 0;
  std::vector<std::string> answers;
  while (!input.empty() && answers.size() < kMaxTexts) answers.push_back(cut_text(input));

  const auto config_file = nitro::fuzz::file_of(config);
  const auto shared_file = nitro::fuzz::file_of(shared);
  const auto token_file = nitro::fuzz::file_of(std::string(kSecret) + "\n");
  std::size_t requests = 0;
  kms::Environment environment;
  environment.variable = [&](std::string_view name) -> std::string {
    const auto when = [set_up](unsigned bit, std::string text) { return (set_up & bit) != 0 ? text : std::string(); };
    if (name == "AWS_CONFIG_FILE") return path_of(config_file);
    if (name == "AWS_SHARED_CREDENTIALS_FILE") return path_of(shared_file);
    if (name == "AWS_ACCESS_KEY_ID") return when(1, "AKID");
    if (name == "AWS_SECRET_ACCESS_KEY") return when(1, std::string(kSecret));
    if (name == "AWS_PROFILE") return when(2, value);
    if (name == "AWS_WEB_IDENTITY_TOKEN_FILE") return when(4, path_of(token_file));
    if (name == "AWS_ROLE_ARN") return when(4, value);
    if (name == "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") return when(8, "/v2");
    if (name == "AWS_CONTAINER_CREDENTIALS_FULL_URI") return when(16, value);
    if (name == "AWS_CONTAINER_AUTHORIZATION_TOKEN") return when(32, std::string(kSecret));
    if (name == "AWS_EC2_METADATA_SERVICE_ENDPOINT") return when(64, value);
    if (name == "AWS_EC2_METADATA_DISABLED") return when(128, "true");
    return {};
  };
  environment.send = [&](const http::Request& request) -> Result<http::Response> {
    require(++requests <= kMostRequests);
    require(request.failure == ErrorCode::kSigning && request.total_timeout_seconds > 0);
    require(!request.follow_redirects && request.url.find(kSecret) == std::string::npos);
    if (requests > answers.size()) return nitro::fail(ErrorCode::kSigning, "the connection fails");
    const auto& answer = answers[requests - 1];
    http::Response response;
    response.status = status_of(answer.empty() ? 'y' : answer.front());
    if (!answer.empty()) response.body = answer.substr(1);
    return response;
  };
  environment.now = [] { return std::time_t{1'700'000'000}; };
  environment.pause = [](std::chrono::milliseconds) {};

  const auto arn = kms::parse_key_arn("arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab");
  require(arn.has_value());
  kms::Client client(*arn, environment);
  const auto key = client.public_key();
  if (!key) check(key.error());
  if (key) require(!key->der.empty());
  const auto digest = std::string(48, 'd');
  const auto signature = client.sign("ECDSA_SHA_384", nitro::as_bytes(digest));
  if (!signature) check(signature.error());
  if (signature) require(!signature->empty());
  return 0;
}
