// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "eif/kms/environment.h"
#include "eif/kms/key_arn.h"
#include "nitro/result.h"
#include "src/base/secret.h"

namespace nitro::kms {

/// Where an AWS service ("kms", "sts") is for the region of `key`: what AWS_ENDPOINT_URL_KMS (…_STS) or
/// AWS_ENDPOINT_URL name, else https://SERVICE.REGION.amazonaws.com; with AWS_USE_FIPS_ENDPOINT=true its FIPS 140
/// endpoint.
[[nodiscard]] std::string endpoint(const std::string& service, const KeyArn& key, const Environment& environment);

/// Why a service does not do what it was asked.
struct Refusal {
  std::string type;     ///< "NotFoundException"; empty when it gives none
  std::string message;  ///< AWS's own words
};

/// A question to a service, apart from what is asked.
struct Question {
  std::string step;    ///< begins the message of every error: "asking AWS KMS for …"
  std::string source;  ///< where the credentials are from: "the environment"
  Refusal (*read_refusal)(const std::string& body);
};

/// Sends `request`, up to three times when it may go better the next time (a busy service, a broken connection).
/// Returns the body of a success. Errors: kSigning, one sentence that says what to do.
Result<Secret> ask_service(const Environment& environment, http::Request request, const Question& question);

}  // namespace nitro::kms
