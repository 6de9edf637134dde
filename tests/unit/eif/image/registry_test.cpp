// SPDX-License-Identifier: Apache-2.0
#include "eif/image/registry.h"

#include <gtest/gtest.h>

#include <map>

#include "eif/image/registry_certificates.h"
#include "eif/image/token.h"
#include "src/http/http.h"
#include "temp_folder.h"
#include "tests/unit/eif/image/layer_maker.h"

namespace nitro::image {
namespace {

using nitro::testing::TempFolder;
using nitro::testing::write_file;

TEST(Challenge, IsTakenApart) {
  const auto challenges =
      parse_challenges(R"(Bearer realm="https://auth.example.com/token",service="a \"b\"", scope=x,error="")");
  ASSERT_EQ(challenges.size(), 1U);
  const auto& bearer = challenges.front();
  EXPECT_EQ(bearer.scheme, "bearer");
  EXPECT_EQ(bearer.parameter("realm"), "https://auth.example.com/token");
  EXPECT_EQ(bearer.parameter("service"), "a \"b\"");
  EXPECT_EQ(bearer.parameter("scope"), "x");
  EXPECT_EQ(bearer.parameter("error"), "");
  EXPECT_EQ(bearer.parameter("missing"), "");
}

TEST(Challenge, MayOfferSeveralWays) {
  const auto challenges = parse_challenges(R"(Basic realm="a, b", Bearer realm="c",service=d, Negotiate)");
  ASSERT_EQ(challenges.size(), 3U);
  EXPECT_EQ(challenges[0].scheme, "basic");
  EXPECT_EQ(challenges[0].parameter("realm"), "a, b");
  EXPECT_EQ(challenges[1].scheme, "bearer");
  EXPECT_EQ(challenges[1].parameter("service"), "d");
  EXPECT_EQ(challenges[2].scheme, "negotiate");
}

TEST(Challenge, MayHaveCommasInItsRealmAndNoQuotesAroundIt) {
  const auto commas =
      parse_challenges(R"(Bearer realm="https://auth.example.com/token?a=1,b=2",scope="a:b:pull,push")");
  ASSERT_EQ(commas.size(), 1U);
  EXPECT_EQ(commas.front().parameter("realm"), "https://auth.example.com/token?a=1,b=2");
  EXPECT_EQ(commas.front().parameter("scope"), "a:b:pull,push");
  const auto bare = parse_challenges("Basic realm=/");
  ASSERT_EQ(bare.size(), 1U);
  EXPECT_EQ(bare.front().parameter("realm"), "/");
}

TEST(Challenge, ThatIsBrokenIsReadAsFarAsItIsOne) {
  const struct {
    std::string header;
    std::vector<std::string> schemes;
    std::map<std::string, std::string> parameters;  // of the last
  } cases[] = {{"", {}, {}},
               {"=", {}, {}},
               {",", {}, {}},
               {"a=b", {}, {}},
               {"Basic", {"basic"}, {}},
               {"Bearer realm", {"bearer", "realm"}, {}},
               {"Bearer realm=\"", {"bearer"}, {{"realm", ""}}},
               {"Bearer ,,=", {"bearer"}, {{"", ""}}},
               {"Bearer a=\"\\", {"bearer"}, {{"a", "\\"}}},
               {"Bearer a=\"b", {"bearer"}, {{"a", "b"}}}};
  for (const auto& one : cases) {
    std::vector<std::string> schemes;
    const auto challenges = parse_challenges(one.header);
    for (const auto& challenge : challenges) schemes.push_back(challenge.scheme);
    EXPECT_EQ(schemes, one.schemes) << one.header;
    if (!challenges.empty()) {
      EXPECT_EQ(challenges.back().parameters, one.parameters) << one.header;
    }
  }
}

TEST(RegistryReason, IsWhatTheRegistrySaysElseItsStatus) {
  http::Response response;
  response.status = 404;
  response.body = R"({"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]})";
  EXPECT_EQ(registry_reason(response), "manifest unknown");
  response.body = R"({"errors":[{"code":"DENIED"}]})";
  EXPECT_EQ(registry_reason(response), "DENIED");
  for (const char* body : {"", "<html>", R"({"errors":[]})", R"({"errors":[7]})", R"({"errors":[{}]})"}) {
    response.body = body;
    EXPECT_EQ(registry_reason(response), "HTTP status 404") << body;
  }
}

TEST(RegistryCertificates, AreThoseInTheFolderOfTheHost) {
  const TempFolder first;
  const TempFolder second;
  const auto host = first / "localhost:5000";
  std::filesystem::create_directories(host);
  std::filesystem::create_directories(second / "localhost:5000");
  write_file(host + "/b.crt", "B");
  write_file(host + "/a.crt", "A");
  write_file(host + "/readme.txt", "X");
  write_file(host + "/me.cert", "certificate");
  write_file(host + "/me.key", "key");
  write_file(second / "localhost:5000/ca.crt", "C");
  const auto found = registry_certificates("localhost:5000", {first.path(), "/nonexistent", second.path()});
  ASSERT_OK(found);
  EXPECT_EQ(found->authorities, "A\nB\nC\n");
  EXPECT_EQ(found->client_certificate_file, host + "/me.cert");
  EXPECT_EQ(found->client_key_file, host + "/me.key");
  const auto other = registry_certificates("localhost", {first.path()});
  ASSERT_OK(other);
  EXPECT_EQ(other->authorities + other->client_certificate_file, "");
}

TEST(RegistryCertificates, AreNotThoseOfTheFolderAbove) {
  const TempFolder folder;
  std::filesystem::create_directories(folder / "certs.d");
  write_file(folder / "ca.crt", "A");
  write_file(folder / "certs.d/ca.crt", "B");
  for (const char* host : {".", ".."}) {
    const auto found = registry_certificates(host, {folder / "certs.d"});
    ASSERT_OK(found);
    EXPECT_EQ(found->authorities, "") << host;
  }
}

TEST(RegistryCertificates, NeedAKeyForACertificate) {
  const TempFolder folder;
  std::filesystem::create_directories(folder / "a.example.com");
  write_file(folder / "a.example.com/me.cert", "certificate");
  const auto found = registry_certificates("a.example.com", {folder.path()});
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code(), ErrorCode::kDockerImagePull);
  EXPECT_PRED2(contains, found.error().message(), "me.key");
}

TEST(Registry, TrustsPlainHttpOnThisMachineOnly) {
  for (const char* host : {"localhost", "localhost:5000", "127.0.0.1", "127.1.2.3:80", "[::1]:5000"})
    EXPECT_TRUE(is_loopback(host)) << host;
  for (const char* host : {"localhost.example.com", "127.evil.com", "128.0.0.1", "example.com", ""})
    EXPECT_FALSE(is_loopback(host)) << host;
}

TEST(TokenAnswer, GivesTheTokenUnderEitherName) {
  for (const char* text :
       {R"({"token":"a.b-c"})", R"({"access_token":"a.b-c"})", R"({"token":"","access_token":"a.b-c"})",
        R"({"expires_in":300,"token":"a.b-c","access_token":"x"})"}) {
    const auto token = token_in(Secret(text));
    ASSERT_OK(token);
    EXPECT_EQ(token->text(), "a.b-c") << text;
  }
}

TEST(TokenAnswer, IsRefusedWhenItsTokenCouldNotStandInAHeader) {
  for (const char* text : {"", "[]", "{}", "null", R"({"token":7})", R"({"token":""})", R"({"token":"a\r\nEvil: 1"})",
                           R"({"token":"a\nb"})", R"({"token":"a\rb"})", R"({"token":"a b"})",
                           R"({"token":"a\u0000b"})", R"({"token":"\u00e9"})", R"({"access_token":"a\nb"})"}) {
    const auto token = token_in(Secret(text));
    ASSERT_FALSE(token) << text;
    EXPECT_EQ(token.error().code(), ErrorCode::kDockerImagePull) << text;
  }
}

}  // namespace
}  // namespace nitro::image
