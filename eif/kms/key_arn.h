// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "nitro/result.h"

namespace nitro::kms {

/// The name of a key, or of an alias, in AWS KMS.
struct KeyArn {
  std::string text;       ///< in the form for KMS: "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-…"
  std::string partition;  ///< "aws", "aws-cn" or "aws-us-gov"
  std::string region;     ///< the region of the key, whose KMS is used
};

/// Whether `word` is an ARN rather than the path of a file. A file with such a name is "./arn:…".
[[nodiscard]] bool is_arn(std::string_view word);

/// Parses arn:PARTITION:kms:REGION:ACCOUNT:RESOURCE, where RESOURCE is key/ID, key:ID (also accepted by the AWS tools)
/// or alias/NAME. Errors: kSigning; the message shows the form of an ARN.
Result<KeyArn> parse_key_arn(std::string_view text);

}  // namespace nitro::kms
