// SPDX-License-Identifier: Apache-2.0
#include "eif/image/reference.h"

#include <gtest/gtest.h>

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
           {"localhost:5000/a/b", Transport::kUnspecified, "", "localhost:5000/a/b:latest"},
           {"localhost:5000/a/b@" + kDigest, Transport::kUnspecified, "", "localhost:5000/a/b@" + kDigest},
           {"docker-daemon:[::1]:5000/app", Transport::kDaemon, "", "[::1]:5000/app:latest"},
           {"docker://localhost:5000/app", Transport::kRegistry, "", "localhost:5000/app:latest"},
           {"localhost:5000", Transport::kUnspecified, "", "localhost:5000"},
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
  for (const auto& text : std::vector<std::string>{"",
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
                                                   "http://example.com/x",
                                                   "host:/a",
                                                   "host:12a/a",
                                                   "host.:5000/a",
                                                   "-host.example.com/a",
                                                   "a..b.example.com/a",
                                                   "::1/a",
                                                   "[::1/a",
                                                   "[::1]5000/a",
                                                   "[localhost]:5000/a",
                                                   "localhost:5000/App",
                                                   "localhost:5000/a:",
                                                   "localhost:5000:latest",
                                                   std::string(64, 'a')}) {
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
      {"localhost:5000/a", "localhost:5000/a:latest"},
      {"localhost:5000", "docker.io/library/localhost:5000"},
      {"127.0.0.1/a", "127.0.0.1/a:latest"},
      {"[::1]/a", "[::1]/a:latest"},
      {"[fd00:1::2]:5000/a/b:3", "[fd00:1::2]:5000/a/b:3"},
      {"Registry/a", "Registry/a:latest"},
      {"My-Registry.example.com:443/a", "My-Registry.example.com:443/a:latest"},
      {"registry/a", "docker.io/registry/a:latest"},
      {"localhost:5000/a:1@" + kDigest, "localhost:5000/a:1@" + kDigest},
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

TEST(ImageName, HasAtMost255CharactersWithTheNameOfItsRegistry) {
  const std::string longest(255 - std::string("docker.io/library/").size(), 'a');
  ASSERT_TRUE(parse_image_name(longest));
  EXPECT_TRUE(parse_image_name(parse_image_name(longest)->canonical()));
  EXPECT_FALSE(parse_image_name(longest + "a"));
  EXPECT_FALSE(parse_image_name("a.b/" + std::string(252, 'a')));
}

TEST(ImageName, HasATagOfAtMost128Characters) {
  EXPECT_TRUE(parse_image_name("a:" + std::string(128, 't')));
  EXPECT_FALSE(parse_image_name("a:" + std::string(129, 't')));
}

TEST(ImageName, LosesItsTagAndKeepsItsPort) {
  EXPECT_EQ(without_tag("golden/tiny:1"), "golden/tiny");
  EXPECT_EQ(without_tag("localhost:5000/a"), "localhost:5000/a");
  EXPECT_EQ(without_tag("localhost:5000/a:1"), "localhost:5000/a");
  EXPECT_EQ(without_tag("a:1@" + kDigest), "a");
}

}  // namespace
}  // namespace nitro::image
