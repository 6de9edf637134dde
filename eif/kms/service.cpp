// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <utility>

#include "src/base/bytes.h"

namespace nitro::kms {

namespace {

constexpr int kAttempts = 3;
constexpr std::chrono::milliseconds kFirstPause{500};

// What a refusal means for the person who signs an image (AWS KMS API Reference: errors of GetPublicKey and Sign, and
// the common ones; AWS STS API Reference: AssumeRole, AssumeRoleWithWebIdentity).
struct Meaning {
  std::string_view type;
  std::string_view advice;  ///< {} is the source of the credentials
};
constexpr std::string_view kUnknownCredentials =
    "AWS does not know the credentials of {}; correct them, or refresh them if they are temporary";
constexpr std::string_view kWrongSecret =
    "the secret access key does not belong to the access key ID; correct the credentials of {}";
constexpr std::string_view kExpired = "the credentials of {} have expired; refresh them";
constexpr std::string_view kClock = "this machine's clock is wrong by minutes; set it";
constexpr std::string_view kNotForSigning =
    "the key is not for signing; make an asymmetric key for signing of the kind ECC_NIST_P256, ECC_NIST_P384 or "
    "ECC_NIST_P521";
constexpr std::array kMeanings = {
    Meaning{
        "AccessDenied",
        "the credentials of {} may not take on the role; allow sts:AssumeRole in their policy and in the role's trust "
        "policy"},
    Meaning{"AccessDeniedException",
            "the credentials of {} may not do that; allow kms:GetPublicKey and kms:Sign in the policy of the key or of "
            "the role"},
    Meaning{"DisabledException", "the key is disabled; enable it"},
    Meaning{"ExpiredToken", kExpired},
    Meaning{"ExpiredTokenException", kExpired},
    Meaning{"IncompleteSignature", kWrongSecret},
    Meaning{"InvalidClientTokenId", kUnknownCredentials},
    Meaning{"InvalidIdentityToken", "AWS does not accept the token of {}; get a new one"},
    Meaning{"InvalidKeyUsageException", kNotForSigning},
    Meaning{"InvalidSignatureException", kWrongSecret},
    Meaning{"KMSInvalidStateException",
            "the key cannot be used in its present state; if it is to be deleted, cancel that or use another key"},
    Meaning{"NotFoundException", "there is no such key in this account and region; check the ARN"},
    Meaning{"RequestExpired", kClock},
    Meaning{"SignatureDoesNotMatch", kWrongSecret},
    Meaning{"UnrecognizedClientException", kUnknownCredentials},
    Meaning{"UnsupportedOperationException", kNotForSigning},
};

bool may_go_better(long status, const std::string& type) {
  return status >= 500 || status == 429 || type == "ThrottlingException" || type == "DependencyTimeoutException" ||
         type == "KeyUnavailableException" || type == "Throttling";
}

std::string advice_on(const Refusal& refusal, long status, const std::string& source) {
  // One type stands for two mistakes; only the text distinguishes them.
  const bool clock =
      refusal.message.starts_with("Signature expired") || refusal.message.starts_with("Signature not yet current");
  if (clock) return std::string(kClock);
  const auto* known = std::find_if(kMeanings.begin(), kMeanings.end(),
                                   [&](const Meaning& meaning) { return meaning.type == refusal.type; });
  if (known != kMeanings.end()) return fmt::format(fmt::runtime(known->advice), source);
  if (may_go_better(status, refusal.type)) return "the service is busy or out of order; try again later";
  return fmt::format("it answers with status {}{}", status, refusal.type.empty() ? "" : " " + quote(refusal.type));
}

}  // namespace

std::string endpoint(const std::string& service, const KeyArn& key, const Environment& environment) {
  std::string upper = service;
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  for (const std::string& name : {"AWS_ENDPOINT_URL_" + upper, std::string("AWS_ENDPOINT_URL")}) {
    auto url = environment.variable(name.c_str());
    while (url.ends_with('/')) url.pop_back();
    if (!url.empty()) return url;
  }
  const bool fips = environment.variable("AWS_USE_FIPS_ENDPOINT") == "true";
  return fmt::format("https://{}{}.{}.amazonaws.com{}", service, fips ? "-fips" : "", key.region,
                     key.partition == "aws-cn" ? ".cn" : "");
}

Result<Secret> ask_service(const Environment& environment, http::Request request, const Question& question) {
  request.connect_timeout_seconds = 5;
  request.total_timeout_seconds = 30;
  request.failure = ErrorCode::kSigning;
  auto pause = kFirstPause;
  for (int attempt = 1;; ++attempt, pause *= 2) {
    auto response = environment.send(request);
    if (response && response->success()) return Secret(std::move(response->body));
    const auto refusal = response ? question.read_refusal(response->body) : Refusal();
    if (attempt < kAttempts && (!response || may_go_better(response->status, refusal.type))) {
      environment.pause(pause);
      continue;
    }
    if (!response) return fail_within(question.step, std::move(response).error());
    return fail(ErrorCode::kSigning,
                fmt::format("{}: {}{}", question.step, advice_on(refusal, response->status, question.source),
                            refusal.message.empty() ? "" : fmt::format(" (AWS says {})", quote(refusal.message))));
  }
}

}  // namespace nitro::kms
