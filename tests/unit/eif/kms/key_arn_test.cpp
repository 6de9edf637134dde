// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/key_arn.h"

#include <string>

#include "temp_folder.h"

namespace nitro::kms {
namespace {

TEST(KeyArn, IsUnderstoodInEveryFormThatTheAwsToolsTake) {
  struct Row {
    const char* text;
    const char* partition;
    const char* region;
    const char* sent;  // as KMS takes it
  };
  for (const Row& row : {
           Row{"arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab", "aws", "us-east-1",
               "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"},
           Row{"arn:aws:kms:us-east-1:123456789012:key:1234abcd", "aws", "us-east-1",
               "arn:aws:kms:us-east-1:123456789012:key/1234abcd"},
           Row{"arn:aws-cn:kms:cn-north-1:123456789012:key/a", "aws-cn", "cn-north-1",
               "arn:aws-cn:kms:cn-north-1:123456789012:key/a"},
           Row{"arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/mrk-0", "aws-us-gov", "us-gov-west-1",
               "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/mrk-0"},
           Row{"arn:aws:kms:eu-central-1:123456789012:alias/team/Enclave_images-1", "aws", "eu-central-1",
               "arn:aws:kms:eu-central-1:123456789012:alias/team/Enclave_images-1"},
       }) {
    const auto arn = parse_key_arn(row.text);
    ASSERT_OK(arn);
    EXPECT_EQ(arn->partition, row.partition) << row.text;
    EXPECT_EQ(arn->region, row.region) << row.text;
    EXPECT_EQ(arn->text, row.sent) << row.text;
  }
}

TEST(KeyArn, OfAnythingElseIsRefusedWithTheFormItHas) {
  for (const std::string text : {
           "",
           "arn:",
           "arn:aws:kms",
           "arn:aws-iso:kms:us-iso-east-1:123456789012:key/a",
           "arn:aws:s3:us-east-1:123456789012:key/a",
           "arn:aws:kms::123456789012:key/a",
           "arn:aws:kms:us east:123456789012:key/a",
           "arn:aws:kms:US-EAST-1:123456789012:key/a",
           "arn:aws:kms:us-east-1.evil.example:123456789012:key/a",
           "arn:aws:kms:us-east-1:12345678901:key/a",
           "arn:aws:kms:us-east-1:1234567890123:key/a",
           "arn:aws:kms:us-east-1:12345678901a:key/a",
           "arn:aws:kms:us-east-1:123456789012:key/",
           "arn:aws:kms:us-east-1:123456789012:key:",
           "arn:aws:kms:us-east-1:123456789012:key-a",
           "arn:aws:kms:us-east-1:123456789012:key/a@b",
           "arn:aws:kms:us-east-1:123456789012:alias:a",
           "arn:aws:kms:us-east-1:123456789012:alias/",
           " arn:aws:kms:us-east-1:123456789012:key/a",
           "arn:aws:kms:us-east-1:123456789012:key/a\n",
       }) {
    const auto arn = parse_key_arn(text);
    ASSERT_FALSE(arn) << text;
    EXPECT_EQ(arn.error().code(), ErrorCode::kSigning);
    EXPECT_NE(arn.error().message().find("it looks like arn:aws:kms:"), std::string::npos);
  }
  EXPECT_FALSE(parse_key_arn("arn:aws:kms:us-east-1:123456789012:key/" + std::string(1U << 20, 'a')));
}

TEST(KeyArn, IsToldFromThePathOfAFileByItsFirstWord) {
  EXPECT_TRUE(is_arn("arn:aws:kms:us-east-1:123456789012:key/a"));
  EXPECT_TRUE(is_arn("arn:nonsense"));
  EXPECT_FALSE(is_arn("key.pem"));
  EXPECT_FALSE(is_arn("./arn:aws"));
  EXPECT_FALSE(is_arn(""));
}

}  // namespace
}  // namespace nitro::kms
