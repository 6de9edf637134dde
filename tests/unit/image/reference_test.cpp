// SPDX-License-Identifier: Apache-2.0
#include "eif/image/reference.h"

#include <gtest/gtest.h>

#include "eif/image/credentials.h"
#include "eif/image/registry.h"
#include "nitro/http.h"
#include "temp_folder.h"

namespace nitro::image {
namespace {

const std::string kDigest = "sha256:" + std::string(64, 'a');

TEST(Reference, TakesEveryTransportApart) {
  struct Case {
    std::string text;
    Transport transport;
    std::string path;
    std::string name;
  };
  for (const auto& [text, transport, path, name] : std::vector<Case>{
           {"alpine", Transport::kUnspecified, "", "alpine:latest"},
           {"golden/tiny:1", Transport::kUnspecified, "", "golden/tiny:1"},
           {"localhost:5000/a/b", Transport::kUnspecified, "", "localhost:5000/a/b"},
           {"alpine@" + kDigest, Transport::kUnspecified, "", "alpine@" + kDigest},
           {kDigest, Transport::kUnspecified, "", kDigest},
           {"docker-daemon:alpine:3", Transport::kDaemon, "", "alpine:3"},
           {"docker-archive:a.tar", Transport::kDockerArchive, "a.tar", ""},
           {"docker-archive:/x/a b.tar:golden/tiny:1", Transport::kDockerArchive, "/x/a b.tar", "golden/tiny:1"},
           {"docker-archive:a.tar:@0", Transport::kDockerArchive, "a.tar", "@0"},
           {"oci:dir", Transport::kOci, "dir", ""},
           {"oci:dir:v1", Transport::kOci, "dir", "v1"},
           {"oci-archive:a.tar:v1", Transport::kOciArchive, "a.tar", "v1"},
           {"docker://quay.io/a/b:1", Transport::kRegistry, "", "quay.io/a/b:1"},
           {"docker://alpine", Transport::kRegistry, "", "alpine:latest"},
       }) {
    const auto parsed = parse_reference(text);
    ASSERT_OK(parsed);
    EXPECT_EQ(parsed->transport, transport) << text;
    EXPECT_EQ(parsed->path, path) << text;
    EXPECT_EQ(parsed->name, name) << text;
  }
}

TEST(Reference, RefusesWhatIsNoName) {
  for (const std::string text : {"",
                                 "docker-archive:",
                                 "docker-archive::x",
                                 "docker-archive:a.tar:",
                                 "oci:",
                                 "oci-archive::",
                                 "docker://",
                                 "docker-daemon:",
                                 "A/b C",
                                 "Upper",
                                 "a//b",
                                 "/a",
                                 "a/",
                                 "a:",
                                 "a:b:c",
                                 "a:-tag",
                                 "a b",
                                 "a@sha256:12",
                                 "a@",
                                 "-a",
                                 "a..b",
                                 "a___b",
                                 "http://example.com/x"}) {
    const auto parsed = parse_reference(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_EQ(parsed.error().code(), ErrorCode::kDockerImagePull) << text;
  }
}

TEST(ImageName, IsCompletedAsEnginesDo) {
  const std::vector<std::pair<std::string, std::string>> table{
      {"alpine", "docker.io/library/alpine:latest"},
      {"golden/tiny:1", "docker.io/golden/tiny:1"},
      {"docker.io/alpine", "docker.io/library/alpine:latest"},
      {"index.docker.io/a/b", "docker.io/a/b:latest"},
      {"localhost/a", "localhost/a:latest"},
      {"localhost:5000/a:2", "localhost:5000/a:2"},
      {"quay.io/a/b_c/d-e:V.1-x", "quay.io/a/b_c/d-e:V.1-x"},
      {"a@" + kDigest, "docker.io/library/a@" + kDigest},
      {"a:1@" + kDigest, "docker.io/library/a:1@" + kDigest},
  };
  for (const auto& [text, canonical] : table) {
    const auto name = parse_image_name(text);
    ASSERT_OK(name);
    EXPECT_EQ(name->canonical(), canonical) << text;
  }
}

TEST(ImageName, LosesItsTagAndKeepsItsPort) {
  EXPECT_EQ(without_tag("golden/tiny:1"), "golden/tiny");
  EXPECT_EQ(without_tag("localhost:5000/a"), "localhost:5000/a");
  EXPECT_EQ(without_tag("localhost:5000/a:1"), "localhost:5000/a");
  EXPECT_EQ(without_tag("a:1@" + kDigest), "a");
}

TEST(Challenge, IsTakenApart) {
  const auto challenge =
      parse_challenge(R"(Bearer realm="https://auth.example.com/token",service="a \"b\"", scope=x,error="")");
  EXPECT_EQ(challenge.scheme, "bearer");
  EXPECT_EQ(challenge.parameters.at("realm"), "https://auth.example.com/token");
  EXPECT_EQ(challenge.parameters.at("service"), "a \"b\"");
  EXPECT_EQ(challenge.parameters.at("scope"), "x");
  EXPECT_EQ(challenge.parameters.at("error"), "");
  for (const char* odd : {"", "Basic", "Bearer realm", "Bearer realm=\"", "Bearer ,,=", "Bearer a=\"\\"}) {
    EXPECT_NO_FATAL_FAILURE((void)parse_challenge(odd)) << odd;
  }
}

TEST(Registry, TrustsPlainHttpOnThisMachineOnly) {
  for (const char* host : {"localhost", "localhost:5000", "127.0.0.1", "127.1.2.3:80", "[::1]:5000"})
    EXPECT_TRUE(is_loopback(host)) << host;
  for (const char* host : {"localhost.example.com", "127.evil.com", "128.0.0.1", "example.com", ""})
    EXPECT_FALSE(is_loopback(host)) << host;
}

TEST(Credentials, AreFoundUnderEverySpellingOfTheHost) {
  const std::string config = R"({"auths":{"https://index.docker.io/v1/":{"auth":")" + to_base64("me:se:cret") +
                             R"("},"localhost:5000":{"auth":")" + to_base64("u:p") + R"("},"empty.example.com":{}}})";
  const auto hub = credentials_in(config, "docker.io");
  ASSERT_OK(hub);
  ASSERT_TRUE(*hub);
  EXPECT_EQ((*hub)->user, "me");
  EXPECT_EQ((*hub)->password, "se:cret");
  EXPECT_TRUE(*credentials_in(config, "localhost:5000"));
  EXPECT_FALSE(*credentials_in(config, "localhost"));
  EXPECT_FALSE(*credentials_in(config, "empty.example.com"));
  EXPECT_FALSE(*credentials_in("{}", "docker.io"));
  EXPECT_FALSE(credentials_in("{", "docker.io"));
  EXPECT_FALSE(credentials_in(R"({"auths":{"a.b":{"auth":"!!!!"}}})", "a.b"));
  EXPECT_FALSE(credentials_in(R"({"auths":{"a.b":{"auth":"YWJj"}}})", "a.b"));
}

TEST(Base64, GoesBothWays) {
  for (const std::string text : {"", "a", "ab", "abc", "abcd", "\xff\x00\x01"})
    EXPECT_EQ(from_base64(to_base64(text)), text);
  EXPECT_FALSE(from_base64("abc"));
  EXPECT_FALSE(from_base64("a=bc"));
}

TEST(Url, EscapesWhatQueriesMayNotHold) {
  EXPECT_EQ(http::url_encoded("a/b:1 ü~"), "a%2fb%3a1%20%c3%bc~");
}

}  // namespace
}  // namespace nitro::image
