// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/sts.h"

#include <string>

#include "temp_folder.h"
#include "tests/unit/eif/kms/fake_environment.h"

namespace nitro::kms {
namespace {

using testing::FakeEnvironment;

constexpr const char* kAnswer = R"(<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleResult><AssumedRoleUser><Arn>arn:aws:sts::123456789012:assumed-role/x/s</Arn></AssumedRoleUser>
  <Credentials><AccessKeyId>ASIA</AccessKeyId><SecretAccessKey>a/b+c==</SecretAccessKey>
  <SessionToken>tok/en==</SessionToken><Expiration>2027-01-15T08:00:10Z</Expiration></Credentials></AssumeRoleResult>
</AssumeRoleResponse>)";

const KeyArn kKey = parse_key_arn("arn:aws-cn:kms:cn-north-1:123456789012:key/1234abcd").value();
const Role kRole{.arn = "arn:aws-cn:iam::123456789012:role/x", .session_name = {}, .external_id = "a&b"};
const Credentials kBy{.access_key_id = "AKID",
                      .secret_access_key = Secret("hush"),
                      .session_token = {},
                      .expires = std::nullopt,
                      .source = "the environment"};

TEST(AssumeRole, IsAskedForInTheRegionOfTheKey) {
  FakeEnvironment fake;
  fake.answer(200, kAnswer);
  const auto credentials = assume_role(fake.environment(), kKey, kRole, kBy);
  ASSERT_OK(credentials);
  EXPECT_EQ(credentials->access_key_id, "ASIA");
  EXPECT_EQ(credentials->secret_access_key.text(), "a/b+c==");
  EXPECT_EQ(credentials->session_token.text(), "tok/en==");
  EXPECT_EQ(credentials->expires, 1800000010);

  ASSERT_EQ(fake.asked.size(), 1U);
  const auto& request = fake.asked[0];
  EXPECT_EQ(request.method + " " + request.url, "POST https://sts.cn-north-1.amazonaws.com.cn/");
  EXPECT_EQ(request.headers, std::vector<std::string>{"Content-Type: application/x-www-form-urlencoded"});
  EXPECT_EQ(request.body,
            "Action=AssumeRole&ExternalId=a%26b&Version=2011-06-15"
            "&RoleArn=arn%3Aaws-cn%3Aiam%3A%3A123456789012%3Arole%2Fx&RoleSessionName=nitro-cli");
  ASSERT_TRUE(request.aws_signature);
  EXPECT_EQ(request.aws_signature->service, "sts");
  EXPECT_EQ(request.aws_signature->region, "cn-north-1");
  EXPECT_EQ(request.aws_signature->access_key_id, "AKID");
}

TEST(AssumeRole, SaysInOneSentenceWhatToDoAboutARefusal) {
  struct Row {
    int status;
    const char* body;
    const char* advice;
  };
  for (const Row& row :
       {Row{403, "<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>",
            "the credentials of the environment may not take on the role"},
        Row{403, "<ErrorResponse><Error><Code>InvalidClientTokenId</Code></Error></ErrorResponse>", "does not know"},
        Row{400, "<ErrorResponse><Error><Code>InvalidIdentityToken</Code></Error></ErrorResponse>", "get a new one"},
        Row{400, "nonsense", "it answers with status 400"},
        Row{200, "<a>", "either the access key ID or the secret access key is missing"},
        Row{200, "</AccessKeyId><AccessKeyId>", "is missing"}, Row{200, "<AccessKeyId>", "is missing"}}) {
    FakeEnvironment fake;
    fake.answer(row.status, row.body);
    const auto credentials = assume_role(fake.environment(), kKey, kRole, kBy);
    ASSERT_FALSE(credentials) << row.body;
    const auto& message = credentials.error().message();
    EXPECT_EQ(credentials.error().code(), ErrorCode::kSigning);
    EXPECT_NE(message.find(row.advice), std::string::npos) << message;
    EXPECT_NE(message.find(kRole.arn), std::string::npos) << message;
    EXPECT_EQ(message.find("hush"), std::string::npos) << message;
  }
}

TEST(AssumeRole, WithAWebIdentityIsAskedForWithoutASignature) {
  FakeEnvironment fake;
  fake.answer(200, kAnswer);
  ASSERT_OK(assume_role_with_web_identity(fake.environment(), kKey,
                                          {.arn = "r", .session_name = "s", .external_id = {}}, Secret("e30.e30.x=")));
  ASSERT_EQ(fake.asked.size(), 1U);
  EXPECT_FALSE(fake.asked[0].aws_signature);
  EXPECT_EQ(fake.asked[0].body,
            "Action=AssumeRoleWithWebIdentity&WebIdentityToken=e30.e30.x%3D&Version=2011-06-15&RoleArn=r"
            "&RoleSessionName=s");
}

}  // namespace
}  // namespace nitro::kms
