// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/key_arn.h"

#include <fmt/format.h>

#include <regex>

#include "src/base/bytes.h"

namespace nitro::kms {

namespace {

// Longer than any ARN (IAM: 2048). std::regex recurses for each character, so there must be a limit.
constexpr std::size_t kMaxArn = 2048;

}  // namespace

bool is_arn(std::string_view word) {
  return word.starts_with("arn:");
}

Result<KeyArn> parse_key_arn(std::string_view text) {
  // Partitions and forms of key IDs are those of the AWS tools; the characters of aliases are those of CreateAlias in
  // the API reference of AWS KMS.
  static const std::regex kForm(
      "(arn:(aws|aws-cn|aws-us-gov):kms:([a-z0-9-]+):[0-9]{12}:)(?:key[:/]([A-Za-z0-9-]+)|(alias/[A-Za-z0-9/_-]+))");
  std::match_results<std::string_view::const_iterator> found;
  if (text.size() > kMaxArn || !std::regex_match(text.begin(), text.end(), found, kForm)) {
    return fail(ErrorCode::kSigning,
                fmt::format("{} is not the ARN of a key in AWS KMS; it looks like "
                            "arn:aws:kms:REGION:ACCOUNT:key/ID or arn:aws:kms:REGION:ACCOUNT:alias/NAME",
                            quote(text.substr(0, kMaxArn))));
  }
  const auto resource = found[4].matched ? "key/" + found[4].str() : found[5].str();
  return KeyArn{.text = found[1].str() + resource, .partition = found[2].str(), .region = found[3].str()};
}

}  // namespace nitro::kms
