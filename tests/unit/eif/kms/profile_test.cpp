// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/profile.h"

#include <optional>
#include <string>

#include "temp_folder.h"
#include "tests/unit/eif/kms/fake_environment.h"

namespace nitro::kms {
namespace {

using nitro::testing::TempFolder;
using nitro::testing::write_file;

// "k=v k2=v2", in the order of the names; "none" for no profile.
std::string shown(const std::optional<Profile>& profile) {
  if (!profile) return "none";
  std::string text;
  for (const auto& [key, value] : *profile) text += (text.empty() ? "" : " ") + key + "=" + value.text();
  return text;
}

TEST(Profile, IsTheSectionOfItsName) {
  struct Row {
    const char* text;
    SharedFile file;
    const char* name;
    const char* expected;
  };
  constexpr auto kConfig = SharedFile::kConfig;
  constexpr auto kCredentials = SharedFile::kCredentials;
  for (const Row& row : {
           Row{"", kConfig, "default", "none"},
           Row{"k=v\n", kConfig, "default", "none"},
           Row{"[default]", kConfig, "default", ""},
           Row{"[default]\nk=v", kConfig, "default", "k=v"},
           Row{"[default]\r\nk = v \r\n", kCredentials, "default", "k=v"},
           Row{"[profile default]\nk=v", kConfig, "default", "k=v"},
           Row{"[profile a]\nk=1\n[profile b]\nk=2\n", kConfig, "b", "k=2"},
           Row{"[ profile \t a b ]\nk=1", kConfig, "a b", "k=1"},
           Row{"[a]\nk=1", kConfig, "a", "none"},
           Row{"[a]\nk=1", kCredentials, "a", "k=1"},
           Row{"[profile a]\nk=1", kCredentials, "a", "none"},
           Row{"[profile]\nk=1\n[profilea]\nk=2", kConfig, "a", "none"},
           Row{"[sso-session a]\nk=1\n[services a]\nk=2", kConfig, "a", "none"},
           Row{"[A]\nk=1", kCredentials, "a", "none"},
           Row{"[a]\nk=1\n[b]\n[a]\nk=2\nl=3", kCredentials, "a", "k=2 l=3"},
           Row{"[a] ; comment\n# k=1\n; k=2\nk=3 # comment\nl=4#5", kCredentials, "a", "k=3 l=4#5"},
           Row{"[a]\nAWS_Key = v", kCredentials, "a", "aws_key=v"},
           Row{"[a]\nk = a=b==\n", kCredentials, "a", "k=a=b=="},
           Row{"[a]\nk =\n", kCredentials, "a", "k="},
           Row{"[a]\ns3 =\n  k = 1\n\tl = 2\nk = 3\n", kCredentials, "a", "k=3 s3="},
           Row{"[a]\n  k = 1\n  l = 2\n", kCredentials, "a", "k=1 l=2"},
           Row{"[a]\nnonsense\n=\n[b\nk=1", kCredentials, "a", "="},
       }) {
    EXPECT_EQ(shown(profile_in(row.text, row.file, row.name)), row.expected) << row.text;
  }
}

TEST(Profile, HasValuesAsLongAsSessionTokensAre) {
  const std::string token(4000, 'x');
  EXPECT_EQ(shown(profile_in("[a]\naws_session_token = " + token, SharedFile::kCredentials, "a")),
            "aws_session_token=" + token);
}

TEST(Profile, TakesFromBothFilesAndPrefersTheOneWithCredentials) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / ".aws");
  write_file(folder / ".aws/config", "[default]\nregion = r\nk = config\n[profile only]\nk = 1\n");
  write_file(folder / ".aws/credentials", "[default]\nk = credentials\n");
  testing::FakeEnvironment fake;
  fake.variables["HOME"] = folder.path();
  const auto load = [&](const char* name) {
    const auto profile = load_profile(fake.environment(), name);
    return profile ? shown(*profile) : profile.error().message();
  };
  EXPECT_EQ(load("default"), "k=credentials region=r");
  EXPECT_EQ(load("only"), "k=1");
  EXPECT_EQ(load("neither"), "none");

  write_file(folder / "elsewhere", "[default]\nk = elsewhere\n");
  fake.variables["AWS_SHARED_CREDENTIALS_FILE"] = "~/elsewhere";
  fake.variables["AWS_CONFIG_FILE"] = folder / "missing";
  EXPECT_EQ(load("default"), "k=elsewhere");
}

TEST(Profile, InAFileThatCannotBeReadIsAnError) {
  const TempFolder folder;
  testing::FakeEnvironment fake;
  fake.variables["AWS_CONFIG_FILE"] = folder.path();
  const auto profile = load_profile(fake.environment(), "default");
  ASSERT_FALSE(profile);
  EXPECT_EQ(profile.error().code(), ErrorCode::kSigning);
  EXPECT_NE(profile.error().message().find(folder.path()), std::string::npos);
}

TEST(ProfileName, IsThatOfTheEnvironmentOrTheDefault) {
  testing::FakeEnvironment fake;
  EXPECT_EQ(profile_name(fake.environment()), "default");
  fake.variables["AWS_PROFILE"] = "work";
  EXPECT_EQ(profile_name(fake.environment()), "work");
}

}  // namespace
}  // namespace nitro::kms
