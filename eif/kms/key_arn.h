// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "nitro/result.h"

namespace nitro::kms {

/// The name of a key, or of an alias of one, in AWS KMS.
struct KeyArn {
  std::string text;       ///< as KMS takes it: "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-…"
  std::string partition;  ///< "aws", "aws-cn" or "aws-us-gov"
  std::string region;     ///< where the key is; KMS is asked there
};

/// Whether `word` is meant as an ARN and not as the path of a file. A file of such a name is "./arn:…".
[[nodiscard]] bool is_arn(std::string_view word);

/// arn:PARTITION:kms:REGION:ACCOUNT:RESOURCE, where RESOURCE is key/ID, key:ID (another spelling that the AWS tools
/// take) or alias/NAME. Errors: kSigning, the message says what an ARN looks like.
Result<KeyArn> parse_key_arn(std::string_view text);

}  // namespace nitro::kms
