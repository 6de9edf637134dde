// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "eif/kms/environment.h"
#include "eif/kms/key_arn.h"
#include "nitro/result.h"
#include "src/base/secret.h"

namespace nitro::kms {

/// Returns the endpoint of an AWS service ("kms", "sts") in the region of `key`: that of AWS_ENDPOINT_URL_KMS (…_STS)
/// or AWS_ENDPOINT_URL, else https://SERVICE.REGION.amazonaws.com; with AWS_USE_FIPS_ENDPOINT=true its FIPS 140
/// endpoint.
[[nodiscard]] std::string endpoint(const std::string& service, const KeyArn& key, const Environment& environment);

/// A service's reason for refusing a request.
struct Refusal {
  std::string type;     ///< "NotFoundException"; empty if it gives none
  std::string message;  ///< AWS's own words
};

/// The context of a request to a service, for messages.
struct Question {
  std::string step;    ///< begins every error message: "asking AWS KMS for …"
  std::string source;  ///< the source of the credentials: "the environment"
  Refusal (*read_refusal)(const std::string& body);
};

/// Sends `request`, up to three times if a retry may help (a busy service, a broken connection). Returns the body of a
/// success. Errors: kSigning, one sentence that says what to do.
Result<Secret> ask_service(const Environment& environment, http::Request request, const Question& question);

}  // namespace nitro::kms
