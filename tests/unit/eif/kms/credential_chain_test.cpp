// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/credential_chain.h"

#include <string>

#include "temp_folder.h"
#include "tests/unit/eif/kms/fake_environment.h"

namespace nitro::kms {
namespace {

using nitro::testing::TempFolder;
using nitro::testing::write_file;
using testing::FakeEnvironment;

constexpr const char* kAnswer =
    R"({"Code":"Success","AccessKeyId":"AK","SecretAccessKey":"hush","Token":"tok","Expiration":"2027-01-15T08:00:10Z"})";

// Every place that credentials can come from, all set up at once; a test takes them away one after the other.
class Chain : public ::testing::Test {
 protected:
  Chain() {
    write_file(folder_ / "config", "[default]\naws_access_key_id = FROM_PROFILE\naws_secret_access_key = s\n");
    fake_.variables = {{"AWS_ACCESS_KEY_ID", "FROM_ENVIRONMENT"},
                       {"AWS_SECRET_ACCESS_KEY", "s"},
                       {"AWS_CONFIG_FILE", folder_ / "config"},
                       {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/role"}};
  }
  Result<Credentials> find() { return find_credentials(fake_.environment(), key_); }
  std::string refusal() {
    const auto found = find();
    EXPECT_FALSE(found);
    if (found) return "found";
    EXPECT_EQ(found.error().code(), ErrorCode::kSigning);
    EXPECT_EQ(found.error().message().find("hush"), std::string::npos) << found.error().message();
    return found.error().message();
  }
  void forget_environment() {
    fake_.variables.erase("AWS_ACCESS_KEY_ID");
    fake_.variables.erase("AWS_SECRET_ACCESS_KEY");
  }
  void forget_profile() { fake_.variables.erase("AWS_CONFIG_FILE"); }
  void forget_container() { fake_.variables.erase("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); }

  TempFolder folder_;
  FakeEnvironment fake_;
  KeyArn key_ = parse_key_arn("arn:aws:kms:eu-central-1:123456789012:key/1234abcd").value();
};

TEST_F(Chain, TakesTheFirstPlaceInTheOrderOfTheSdks) {
  auto found = find();
  ASSERT_OK(found);
  EXPECT_EQ(found->access_key_id, "FROM_ENVIRONMENT");
  EXPECT_EQ(found->source, "the environment");
  forget_environment();
  found = find();
  ASSERT_OK(found);
  EXPECT_EQ(found->access_key_id, "FROM_PROFILE");
  EXPECT_EQ(found->source, "the profile \"default\"");
  EXPECT_TRUE(fake_.asked.empty());

  forget_profile();
  fake_.answer(200, kAnswer);
  found = find();
  ASSERT_OK(found);
  EXPECT_EQ(found->access_key_id, "AK");
  EXPECT_EQ(found->session_token.text(), "tok");
  EXPECT_EQ(found->expires, 1800000010);
  ASSERT_EQ(fake_.asked.size(), 1U);
  EXPECT_EQ(fake_.asked[0].url, "http://169.254.170.2/v2/role");
  EXPECT_TRUE(fake_.asked[0].direct);
  EXPECT_TRUE(fake_.asked[0].headers.empty());

  forget_container();
  fake_.asked.clear();
  fake_.answer(200, "session");
  fake_.answer(200, "role\n");
  fake_.answer(200, kAnswer);
  found = find();
  ASSERT_OK(found);
  EXPECT_EQ(found->source, "the instance's role \"role\"");
  ASSERT_EQ(fake_.asked.size(), 3U);
  EXPECT_EQ(fake_.asked[0].method + " " + fake_.asked[0].url, "PUT http://169.254.169.254/latest/api/token");
  EXPECT_EQ(fake_.asked[1].url, "http://169.254.169.254/latest/meta-data/iam/security-credentials/");
  EXPECT_EQ(fake_.asked[2].url, "http://169.254.169.254/latest/meta-data/iam/security-credentials/role");
  for (const auto& request : {fake_.asked[1], fake_.asked[2]}) {
    EXPECT_EQ(request.headers, std::vector<std::string>{"X-aws-ec2-metadata-token: session"});
    EXPECT_TRUE(request.direct);
    EXPECT_LE(request.connect_timeout_seconds, 1);
  }
}

TEST_F(Chain, EndsAtAPlaceThatIsSetUpButBroken) {
  fake_.variables.erase("AWS_SECRET_ACCESS_KEY");
  EXPECT_NE(refusal().find("the environment: either the access key ID or the secret access key is missing"),
            std::string::npos);
  forget_environment();
  write_file(folder_ / "config", "[default]\naws_secret_access_key = hush\n");
  EXPECT_NE(refusal().find("the profile \"default\": either"), std::string::npos);
  fake_.variables["AWS_PROFILE"] = "none";
  EXPECT_NE(refusal().find("the profile \"none\" is not in"), std::string::npos);
  fake_.variables.erase("AWS_PROFILE");
  forget_profile();
  fake_.answer(500, "hush");
  EXPECT_NE(refusal().find("the container's credentials: \"http://169.254.170.2/v2/role\" answers with status 500"),
            std::string::npos);
  EXPECT_EQ(fake_.asked.size(), 1U);
}

TEST_F(Chain, GoesOnFromAProfileThatOnlyHasOtherSettings) {
  forget_environment();
  write_file(folder_ / "config", "[default]\nregion = eu-central-1\n");
  fake_.answer(200, kAnswer);
  const auto found = find();
  ASSERT_OK(found);
  EXPECT_EQ(found->access_key_id, "AK");
}

TEST_F(Chain, SaysWhatHelpsWithProfilesThatTakeMore) {
  forget_environment();
  for (const char* setting : {"role_arn = arn:aws:iam::123456789012:role/x\nsource_profile = y\nmfa_serial = z",
                              "sso_session = x", "sso_start_url = https://x"}) {
    write_file(folder_ / "config", std::string("[default]\n") + setting + "\naws_access_key_id = A\n");
    EXPECT_NE(refusal().find("aws configure export-credentials"), std::string::npos) << setting;
  }
}

// Whom AWS STS is asked by for which role, in order.
TEST_F(Chain, TakesOnTheRoleOfAProfile) {
  forget_environment();
  forget_container();
  const std::string keys = "aws_access_key_id = KEYS\naws_secret_access_key = hush\n";
  fake_.variables["AWS_PROFILE"] = "p";
  for (const auto& [config, expected] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"[profile p]\nrole_arn = role/a\nsource_profile = q\n[profile q]\n" + keys, {"KEYS role/a"}},
           {"[profile p]\nrole_arn = role/a\nsource_profile = p\n" + keys, {"KEYS role/a"}},
           {"[profile p]\nrole_arn = role/a\nsource_profile = q\n[profile q]\nrole_arn = role/b\nsource_profile = r\n"
            "[profile r]\n" +
                keys,
            {"KEYS role/b", "ROLE role/a"}},
           {"[profile p]\nrole_arn = role/a\nsource_profile = q\n[profile q]\nrole_arn = role/b\nsource_profile = r\n" +
                keys,
            {"KEYS role/a"}},
       }) {
    write_file(folder_ / "config", config);
    fake_.asked.clear();
    for (std::size_t i = 0; i < expected.size(); ++i) {
      fake_.answer(200, "<r><AccessKeyId>ROLE</AccessKeyId><SecretAccessKey>hush</SecretAccessKey></r>");
    }
    const auto found = find();
    ASSERT_OK(found);
    EXPECT_EQ(found->access_key_id, "ROLE");
    EXPECT_EQ(found->source, "the role \"role/a\"");
    std::vector<std::string> asked;
    for (const auto& request : fake_.asked) {
      const auto role = request.body.substr(request.body.find("role%2F") + 7, 1);
      asked.push_back(request.aws_signature->access_key_id + " role/" + role);
    }
    EXPECT_EQ(asked, expected) << config;
  }
}

TEST_F(Chain, TakesOnARoleWithTheCredentialsOfANamedSource) {
  const auto ask = [this](const std::string& source) {
    write_file(folder_ / "config", "[profile p]\nrole_arn = role/a\ncredential_source = " + source + "\n");
    fake_.answer(200, "<r><AccessKeyId>ROLE</AccessKeyId><SecretAccessKey>hush</SecretAccessKey></r>");
    return find();
  };
  forget_environment();
  fake_.variables["AWS_PROFILE"] = "p";
  fake_.answer(200, kAnswer);
  ASSERT_OK(ask("EcsContainer"));
  EXPECT_EQ(fake_.asked.back().aws_signature->access_key_id, "AK");
  fake_.answer(200, "session");
  fake_.answer(200, "role");
  fake_.answer(200, kAnswer);
  ASSERT_OK(ask("Ec2InstanceMetadata"));
  EXPECT_EQ(fake_.asked.back().aws_signature->session_token.text(), "tok");
  fake_.answers.clear();
  EXPECT_FALSE(ask("Environment"));
  EXPECT_FALSE(ask("Nonsense"));
}

TEST_F(Chain, RefusesARoleThatNobodyTakesOn) {
  forget_environment();
  struct Row {
    const char* config;
    const char* refusal;
  };
  for (const Row& row : {Row{"[default]\nrole_arn = role/a\n", "neither its source_profile nor its credential_source"},
                         Row{"[default]\nrole_arn = role/a\nsource_profile = none\n", "the profile \"none\" is not in"},
                         Row{"[default]\nrole_arn = role/a\nsource_profile = q\n[profile q]\nregion = x\n",
                             "neither its source_profile"},
                         Row{"[default]\nrole_arn = role/a\nsource_profile = default\n", "its own credentials"},
                         Row{"[default]\nrole_arn = role/a\nsource_profile = q\n[profile q]\nrole_arn = "
                             "role/b\nsource_profile = default",
                             "its own credentials"}}) {
    write_file(folder_ / "config", row.config);
    EXPECT_NE(refusal().find(row.refusal), std::string::npos) << row.config;
    EXPECT_TRUE(fake_.asked.empty());
  }
}

TEST_F(Chain, TakesOnTheRoleOfAWebIdentity) {
  forget_environment();
  forget_profile();
  write_file(folder_ / "token", "a.b/c\n");
  fake_.variables["AWS_WEB_IDENTITY_TOKEN_FILE"] = folder_ / "token";
  EXPECT_NE(refusal().find("AWS_ROLE_ARN is not"), std::string::npos);
  fake_.variables["AWS_ROLE_ARN"] = "role/w";
  fake_.answer(200, "<r><AccessKeyId>WEB</AccessKeyId><SecretAccessKey>hush</SecretAccessKey></r>");
  auto found = find();
  ASSERT_OK(found);
  EXPECT_EQ(found->access_key_id, "WEB");
  EXPECT_NE(fake_.asked.at(0).body.find("WebIdentityToken=a.b%2Fc&"), std::string::npos);
  EXPECT_FALSE(fake_.asked.at(0).aws_signature);

  fake_.variables["AWS_CONFIG_FILE"] = folder_ / "config";
  write_file(folder_ / "config", "[default]\nrole_arn = role/p\nweb_identity_token_file = " + (folder_ / "token"));
  fake_.answer(200, "<r><AccessKeyId>WEB</AccessKeyId><SecretAccessKey>hush</SecretAccessKey></r>");
  found = find();
  ASSERT_OK(found);
  EXPECT_EQ(found->source, "the role \"role/p\"");
  fake_.variables["AWS_CONFIG_FILE"] = folder_ / "none";
  fake_.variables["AWS_WEB_IDENTITY_TOKEN_FILE"] = folder_ / "missing";
  EXPECT_NE(refusal().find("missing"), std::string::npos);
}

TEST_F(Chain, SaysThatThereAreNoneWhereNothingIsSetUp) {
  fake_.variables.clear();
  fake_.answer_nothing();
  EXPECT_NE(refusal().find("there are no AWS credentials: set AWS_ACCESS_KEY_ID"), std::string::npos);
  fake_.variables["AWS_EC2_METADATA_DISABLED"] = "TRUE";
  EXPECT_NE(refusal().find("unset AWS_EC2_METADATA_DISABLED"), std::string::npos);
  EXPECT_EQ(fake_.asked.size(), 1U);
}

TEST_F(Chain, AsksTheMetadataServiceWhereItIsSaidToBe) {
  for (const auto& [name, value, url] :
       {std::tuple{"AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://localhost:1338/", "http://localhost:1338"},
        std::tuple{"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6", "http://[fd00:ec2::254]"},
        std::tuple{"AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv4", "http://169.254.169.254"}}) {
    fake_.variables = {{name, value}};
    fake_.asked.clear();
    fake_.answer_nothing();
    (void)refusal();
    EXPECT_EQ(fake_.asked.at(0).url, std::string(url) + "/latest/api/token");
  }
}

TEST_F(Chain, GivesTheContainersTokenToNobodyElse) {
  struct Row {
    const char* url;
    bool asked;
  };
  for (const Row& row :
       {Row{"http://127.0.0.1:8080/x", true}, Row{"http://127.3.2.1/x", true}, Row{"http://localhost/x", true},
        Row{"http://[::1]:80/x", true}, Row{"http://169.254.170.2/x", true},
        Row{"http://169.254.170.23/v1/credentials", true}, Row{"http://[fd00:ec2::23]/v1/credentials", true},
        Row{"https://credentials.example.com/x", true}, Row{"http://credentials.example.com/x", false},
        Row{"http://169.254.169.254/x", false}, Row{"http://127.0.0.1.example.com/x", false},
        Row{"http://127.0.0.1@example.com/x", false}, Row{"http://example.com/127.0.0.1", false},
        Row{"http://[::2]/x", false}, Row{"http://localhost.example.com/", false}, Row{"ftp://127.0.0.1/x", false},
        Row{"file:///etc/passwd", false}, Row{"nonsense with blanks", false}}) {
    fake_.variables = {{"AWS_CONTAINER_CREDENTIALS_FULL_URI", row.url},
                       {"AWS_CONTAINER_AUTHORIZATION_TOKEN", "hush hush"}};
    fake_.asked.clear();
    fake_.answers.clear();
    fake_.answer(200, kAnswer);
    const auto found = find();
    EXPECT_EQ(found.has_value(), row.asked) << row.url;
    ASSERT_EQ(fake_.asked.size(), row.asked ? 1U : 0U) << row.url;
    if (row.asked) {
      EXPECT_EQ(fake_.asked[0].headers, std::vector<std::string>{"Authorization: hush hush"});
      EXPECT_EQ(fake_.asked[0].url, row.url);
      EXPECT_FALSE(fake_.asked[0].follow_redirects);
    }
  }
}

TEST_F(Chain, PrefersTheFileWithTheContainersToken) {
  write_file(folder_ / "token", "from file");
  fake_.variables = {{"AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://localhost/"},
                     {"AWS_CONTAINER_AUTHORIZATION_TOKEN", "from environment"},
                     {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", folder_ / "token"}};
  fake_.answer(200, kAnswer);
  ASSERT_OK(find());
  EXPECT_EQ(fake_.asked.at(0).headers, std::vector<std::string>{"Authorization: from file"});
  write_file(folder_ / "token", "hush\r\nX-More: 1");
  EXPECT_NE(refusal().find("more than one line"), std::string::npos);
  fake_.variables["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = folder_ / "missing";
  EXPECT_NE(refusal().find("missing"), std::string::npos);
}

TEST_F(Chain, RunsTheCredentialProcessOfAProfile) {
  forget_environment();
  struct Row {
    std::string command;
    const char* refusal;  // empty: it works
  };
  write_file(folder_ / "printed", kAnswer);
  for (const Row& row : {Row{"cat " + (folder_ / "printed"), ""}, Row{"echo hush; exit 7", "exited with status 7"},
                         Row{"echo hush", "is not a JSON object"}, Row{"kill -9 $$", "ended by signal 9"},
                         Row{"head -c 100000 /dev/zero; echo hush >&2 2>/dev/null", "prints more than"}}) {
    write_file(folder_ / "config", "[default]\ncredential_process = " + row.command + "\n");
    if (*row.refusal == '\0') {
      const auto found = find();
      ASSERT_OK(found);
      EXPECT_EQ(found->access_key_id, "AK");
      EXPECT_EQ(found->source, "the credential_process of the profile \"default\"");
    } else {
      EXPECT_NE(refusal().find(row.refusal), std::string::npos) << row.command;
    }
  }
}

}  // namespace
}  // namespace nitro::kms
