// SPDX-License-Identifier: Apache-2.0
#include "eif/image/credentials.h"

#include <gtest/gtest.h>

#include "eif/image/credential_helper.h"
#include "eif/image/digest.h"
#include "eif/image/docker_config.h"
#include "src/base/bytes.h"
#include "src/http/http.h"
#include "temp_folder.h"
#include "tests/unit/eif/image/layer_maker.h"

namespace nitro::image {
namespace {

using nitro::testing::ScopedEnvironment;
using nitro::testing::TempFolder;
using nitro::testing::write_file;

Result<std::optional<Credentials>> no_helper(const std::string& name, const std::string&) {
  return fail(ErrorCode::kDockerImagePull, "helper " + name + " was asked");
}

std::string user_at(const std::string& config, std::string_view host, std::string_view repository = "a/b") {
  const auto login = login_in(config, host, repository, no_helper);
  if (!login) return "error: " + login.error().message();
  return login->credentials ? login->credentials->user : "none";
}

std::string entry(const std::string& key, const std::string& login) {
  return "\"" + key + R"(":{"auth":")" + http::to_base64(login) + R"("})";
}

TEST(Credentials, AreFoundUnderEverySpellingOfTheHost) {
  const std::string config = R"({"auths":{)" + entry("https://index.docker.io/v1/", "me:se:cret") + "," +
                             entry("localhost:5000", "u:p") + "," +
                             entry("https://old.example.com/some/path/", "old:p") + R"(,"empty.example.com":{}}})";
  const auto hub = login_in(config, "docker.io", "library/alpine", no_helper);
  ASSERT_OK(hub);
  ASSERT_TRUE(hub->credentials);
  EXPECT_EQ(hub->credentials->user, "me");
  EXPECT_EQ(hub->credentials->password.text(), "se:cret");
  EXPECT_EQ(user_at(config, "localhost:5000"), "u");
  EXPECT_EQ(user_at(config, "localhost"), "none");
  EXPECT_EQ(user_at(config, "old.example.com"), "old");
  EXPECT_EQ(user_at(config, "empty.example.com"), "none");
  EXPECT_EQ(user_at("{}", "docker.io"), "none");
}

TEST(Credentials, OfARepositoryGoBeforeThoseOfItsHost) {
  const std::string config = R"({"auths":{)" + entry("quay.io", "host:p") + "," + entry("quay.io/team/app", "app:p") +
                             "," + entry("quay.io/team", "team:p") + "}}";
  EXPECT_EQ(user_at(config, "quay.io", "team/app"), "app");
  EXPECT_EQ(user_at(config, "quay.io", "team/application"), "team");
  EXPECT_EQ(user_at(config, "quay.io", "other"), "host");
}

TEST(Credentials, ThatAreDamagedAreRefused) {
  for (const char* config : {"{", R"({"auths":{"a.b":{"auth":"!!!!"}}})", R"({"auths":{"a.b":{"auth":"YWJj"}}})"})
    EXPECT_PRED2(contains, user_at(config, "a.b"), "error: ") << config;
}

TEST(Credentials, MayBeAnIdentityToken) {
  const std::string config =
      R"({"auths":{"a.b":{"auth":")" + http::to_base64("00000000:") + R"(","identitytoken":"T"}}})";
  const auto login = login_in(config, "a.b", "x", no_helper);
  ASSERT_OK(login);
  ASSERT_TRUE(login->credentials);
  EXPECT_EQ(login->credentials->identity_token.text(), "T");
}

TEST(Credentials, ComeFromTheHelperThatIsResponsible) {
  std::string asked;
  const AskHelper helper = [&asked](const std::string& name, const std::string& server) {
    asked = name + " for " + server;
    return Result<std::optional<Credentials>>(Credentials{"helped", Secret("p"), {}});
  };
  const std::string config = R"({"auths":{)" + entry("a.b", "file:p") +
                             R"(},"credsStore":"store","credHelpers":{"own.example.com":"own","docker.io":"hub"}})";
  for (const auto& [host, expected] :
       std::vector<std::pair<std::string, std::string>>{{"a.b", "store for a.b"},
                                                        {"own.example.com", "own for own.example.com"},
                                                        {"docker.io", "hub for https://index.docker.io/v1/"}}) {
    const auto login = login_in(config, host, "x", helper);
    ASSERT_OK(login);
    EXPECT_EQ(asked, expected);
    EXPECT_EQ(login->credentials->user, "helped");
  }
}

TEST(Credentials, OfTheFileCountWhenTheHelperHasNone) {
  const std::string config = R"({"auths":{)" + entry("a.b", "file:p") + R"(},"credsStore":"x"})";
  const auto unknown = login_in(config, "a.b", "x", [](const std::string&, const std::string&) {
    return Result<std::optional<Credentials>>(std::nullopt);
  });
  ASSERT_OK(unknown);
  EXPECT_EQ(unknown->credentials->user, "file");
  EXPECT_EQ(unknown->problem, "");
  const auto failed = login_in(config, "a.b", "x", no_helper);
  ASSERT_OK(failed);
  EXPECT_EQ(failed->credentials->user, "file");
  EXPECT_EQ(failed->problem, "helper x was asked");
}

class CredentialHelper : public ::testing::Test {
 protected:
  CredentialHelper() {
    const char* old = std::getenv("PATH");
    path_.emplace("PATH", (folder_.path() + ":" + (old != nullptr ? old : "")).c_str());
  }
  void install(const std::string& script) {
    const auto file = folder_ / "docker-credential-test";
    write_file(file, "#!/bin/sh\n" + script);
    std::filesystem::permissions(file, std::filesystem::perms::owner_all);
  }
  std::string refusal(std::chrono::milliseconds timeout = kHelperTimeout) {
    const auto found = ask_credential_helper("test", "a.b", timeout);
    if (found) return "";
    EXPECT_EQ(found.error().code(), ErrorCode::kDockerImagePull);
    EXPECT_PRED2(contains, found.error().message(), "the credential helper \"test\"");
    return found.error().message();
  }
  TempFolder folder_;
  std::optional<ScopedEnvironment> path_;
};

TEST_F(CredentialHelper, IsToldTheServerAndAnswersWithJson) {
  install(
      R"sh([ "$1" = get ] && server=$(cat) && printf '{"ServerURL":"%s","Username":"u of %s","Secret":"s"}' "$server" "$server")sh");
  const auto found = ask_credential_helper("test", "https://index.docker.io/v1/");
  ASSERT_OK(found);
  ASSERT_TRUE(*found);
  EXPECT_EQ((*found)->user, "u of https://index.docker.io/v1/");
  EXPECT_EQ((*found)->password.text(), "s");
  EXPECT_EQ((*found)->identity_token.text(), "");
}

TEST_F(CredentialHelper, MayGiveAnIdentityToken) {
  install(R"sh(echo '{"Username":"<token>","Secret":"abc"}')sh");
  const auto found = ask_credential_helper("test", "a.b");
  ASSERT_OK(found);
  ASSERT_TRUE(*found);
  EXPECT_EQ((*found)->identity_token.text(), "abc");
  EXPECT_EQ((*found)->user + (*found)->password.text(), "");
}

TEST_F(CredentialHelper, ThatKnowsNoLoginIsNoFailure) {
  install("echo 'credentials not found in native keychain'; exit 1");
  const auto found = ask_credential_helper("test", "a.b");
  ASSERT_OK(found);
  EXPECT_FALSE(*found);
}

TEST_F(CredentialHelper, ThatFailsIsNamed) {
  EXPECT_PRED2(contains, refusal(), "No such file");
  install("echo 'the vault is sealed'; exit 3");
  EXPECT_PRED2(contains, refusal(), "exited with status 3: \"the vault is sealed\"");
  install("echo nonsense");
  EXPECT_PRED2(contains, refusal(), "its answer");
  install("kill -9 $$");
  EXPECT_PRED2(contains, refusal(), "signal 9");
}

TEST_F(CredentialHelper, ThatAnswersWithoutEndIsReadForAMebibyte) {
  const auto answer = [](std::size_t size) {
    const std::string start = R"({"Username":"u","Secret":"s","more":")";
    return start + std::string(size - start.size() - 2, 'x') + "\"}";
  };
  constexpr std::size_t kMost = std::size_t{1} << 20;
  const TempFolder folder;
  install("exec cat " + (folder / "answer"));
  write_file(folder / "answer", answer(kMost));
  EXPECT_OK(ask_credential_helper("test", "a.b"));
  write_file(folder / "answer", answer(kMost + 1));
  EXPECT_PRED2(contains, refusal(), "its answer");
}

TEST_F(CredentialHelper, ThatHangsIsEnded) {
  install("exec sleep 600");
  EXPECT_PRED2(contains, refusal(std::chrono::milliseconds(200)), "did not answer within");
}

TEST(CredentialHelperName, IsNoPath) {
  const auto found = ask_credential_helper("../../tmp/x", "a.b");
  ASSERT_FALSE(found);
  EXPECT_PRED2(contains, found.error().message(), "no '/'");
}

class DockerFolder : public ::testing::Test {
 protected:
  void write_context(const std::string& name, const std::string& meta) {
    const auto id = sha256(as_bytes(name)).substr(7);
    std::filesystem::create_directories(folder_ / ("contexts/meta/" + id));
    write_file(folder_ / ("contexts/meta/" + id + "/meta.json"), meta);
  }
  TempFolder folder_;
  ScopedEnvironment config_{"DOCKER_CONFIG", folder_.path().c_str()};
  ScopedEnvironment context_{"DOCKER_CONTEXT", nullptr};
};

TEST_F(DockerFolder, MayBeNamedByItsFile) {
  EXPECT_EQ(docker_config_file(), folder_ / "config.json");
  const ScopedEnvironment file("DOCKER_CONFIG", (folder_ / "logins.json").c_str());
  EXPECT_EQ(docker_config_file(), folder_ / "logins.json");
  EXPECT_EQ(docker_folder(), folder_.path());
}

TEST_F(DockerFolder, NamesTheEngineOfTheCurrentContext) {
  const auto none = current_context();
  ASSERT_OK(none);
  EXPECT_FALSE(*none);
  write_file(folder_ / "config.json", R"({"currentContext":"rootless"})");
  write_context("rootless", R"({"Name":"rootless","Endpoints":{"docker":{"Host":"unix:///run/user/1/docker.sock"}}})");
  write_context("far", R"({"Name":"far","Endpoints":{"docker":{"Host":"tcp://a:2376"}}})");
  const auto tls = folder_ / ("contexts/tls/" + sha256(as_bytes("far")).substr(7) + "/docker");
  std::filesystem::create_directories(tls);
  const auto rootless = current_context();
  ASSERT_OK(rootless);
  ASSERT_TRUE(*rootless);
  EXPECT_EQ((*rootless)->address, "unix:///run/user/1/docker.sock");
  EXPECT_EQ((*rootless)->tls_folder, "");
  const ScopedEnvironment chosen("DOCKER_CONTEXT", "far");
  const auto far = current_context();
  ASSERT_OK(far);
  ASSERT_TRUE(*far);
  EXPECT_EQ((*far)->tls_folder, tls);
}

TEST_F(DockerFolder, RefusesAContextThatIsNotThereOrNamesNoEngine) {
  const ScopedEnvironment chosen("DOCKER_CONTEXT", "lost");
  const auto lost = current_context();
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().code(), ErrorCode::kDockerImagePull);
  EXPECT_PRED2(contains, lost.error().message(), "context \"lost\"");
  write_context("lost", "{}");
  EXPECT_PRED2(contains, current_context().error().message(), "names no engine");
}

TEST_F(DockerFolder, ListsTheRegistriesThatHaveLogins) {
  const auto none = registries_with_logins();
  ASSERT_OK(none);
  EXPECT_TRUE(none->empty());
  write_file(folder_ / "config.json", R"({"auths":{"a.b":{},"c.d":{}},"credHelpers":{"c.d":"x","e.f":"x"}})");
  const auto some = registries_with_logins();
  ASSERT_OK(some);
  EXPECT_EQ(*some, (std::vector<std::string>{"a.b", "c.d", "e.f"}));
}

TEST(Base64, GoesBothWays) {
  for (const std::string text : {"", "a", "ab", "abc", "abcd", "\xff\x00\x01"})
    EXPECT_EQ(http::from_base64(http::to_base64(text)), text);
  EXPECT_FALSE(http::from_base64("abc"));
  EXPECT_FALSE(http::from_base64("a=bc"));
}

}  // namespace
}  // namespace nitro::image
