// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/credentials.h"

#include <string>

#include "temp_folder.h"

namespace nitro::kms {
namespace {

TEST(CredentialsAsJson, AreReadWithEitherNameOfTheToken) {
  const auto read = [](const std::string& text) { return credentials_in(Secret(text), "there"); };
  const auto plain = read(R"({"AccessKeyId":"A","SecretAccessKey":"S"})");
  ASSERT_OK(plain);
  EXPECT_TRUE(plain->session_token.empty());
  EXPECT_FALSE(plain->expires);
  const auto process =
      read(R"({"Version":1,"AccessKeyId":"A","SecretAccessKey":"S","SessionToken":"T","Expiration":null})");
  ASSERT_OK(process);
  EXPECT_EQ(process->session_token.text(), "T");
  for (const char* text :
       {"", "[]", "\"hush\"", "{", "{}", R"({"AccessKeyId":"A"})", R"({"AccessKeyId":1,"SecretAccessKey":"hush"})",
        R"({"AccessKeyId":"","SecretAccessKey":"hush"})", R"({"Code":"Failed"})",
        R"({"AccessKeyId":"A\r\nX: 1","SecretAccessKey":"hush"})", R"({"AccessKeyId":"A","SecretAccessKey":"hush\n"})",
        R"({"AccessKeyId":"A","SecretAccessKey":"s","Token":"hush hush"})"}) {
    const auto bad = read(text);
    ASSERT_FALSE(bad) << text;
    EXPECT_EQ(bad.error().code(), ErrorCode::kSigning);
    EXPECT_TRUE(bad.error().message().starts_with("there: ")) << bad.error().message();
    EXPECT_EQ(bad.error().message().find("hush"), std::string::npos) << bad.error().message();
  }
}

TEST(CredentialsAsJson, ExpireAtATimeInAnySpelling) {
  for (const auto& [text, expected] :
       {std::pair{"2027-01-15T08:00:00Z", std::optional<std::time_t>(1800000000)},
        std::pair{"2027-01-15T08:00:00.123456Z", std::optional<std::time_t>(1800000000)},
        std::pair{"2027-01-15T10:00:00+02:00", std::optional<std::time_t>(1800000000)},
        std::pair{"2027-01-15T08:00:00", std::optional<std::time_t>()},
        std::pair{"2027-01-15T08:00:00.", std::optional<std::time_t>()},
        std::pair{"tomorrow", std::optional<std::time_t>()}, std::pair{"", std::optional<std::time_t>()}}) {
    const auto read = credentials_in(
        Secret(std::string(R"({"AccessKeyId":"A","SecretAccessKey":"S","Expiration":")") + text + "\"}"), "there");
    ASSERT_OK(read);
    EXPECT_EQ(read->expires, expected) << text;
  }
}

}  // namespace
}  // namespace nitro::kms
