// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/config/host_pattern.h"

#include <gtest/gtest.h>

namespace nitro::proxy {
namespace {

TEST(Host, IsLowerCaseWithoutTheFinalDot) {
  EXPECT_EQ(normalized_host("KMS.eu-central-1.AmazonAWS.com."), "kms.eu-central-1.amazonaws.com");
  EXPECT_EQ(normalized_host("localhost"), "localhost");
  EXPECT_EQ(normalized_host("_dns.example"), "_dns.example");
  EXPECT_EQ(normalized_host("3com.example"), "3com.example");
  EXPECT_EQ(normalized_host("2001:DB8::1"), "2001:db8::1");
  EXPECT_EQ(normalized_host("::ffff:10.0.0.1"), "10.0.0.1");
}

TEST(Host, IsNothingThatSomeProgramsTakeForAnAddress) {
  for (const char* text : {"0x7f.1", "127.1", "2130706433", "0x7f000001", "a.0x1", "1.2.3.4.5", "10.0.0.256"}) {
    EXPECT_FALSE(normalized_host(text)) << text;
  }
}

TEST(Host, HasLabelsOfLettersAndDigits) {
  for (const std::string& text :
       {std::string(), std::string("."), std::string("a..b"), std::string(".a"), std::string("a b"), std::string("a/b"),
        std::string("user@host"), std::string("b\xC3\xBC"), std::string("a\0b", 3), std::string("a\n"),
        std::string("a.."), std::string(64, 'a'),
        std::string(63, 'a') + "." + std::string(63, 'b') + "." + std::string(63, 'c') + "." + std::string(62, 'd')}) {
    EXPECT_FALSE(normalized_host(text)) << text;
  }
  EXPECT_TRUE(normalized_host(std::string(63, 'a') + "." + std::string(63, 'b') + "." + std::string(63, 'c') + "." +
                              std::string(61, 'd')));
}

bool matches(std::string_view pattern, std::string_view host) {
  const auto parsed = HostPattern::parse(pattern);
  EXPECT_TRUE(parsed) << pattern;
  return parsed && parsed->matches(host);
}

TEST(HostPattern, StandsForOneHost) {
  EXPECT_TRUE(matches("KMS.example.", "kms.example"));
  EXPECT_FALSE(matches("kms.example", "x.kms.example"));
  EXPECT_TRUE(matches("10.0.0.1", "10.0.0.1"));
}

TEST(HostPattern, StandsForAllNamesBelowADomain) {
  EXPECT_TRUE(matches("*.amazonaws.com", "kms.amazonaws.com"));
  EXPECT_TRUE(matches("*.amazonaws.com", "a.b.amazonaws.com"));
  EXPECT_FALSE(matches("*.amazonaws.com", "amazonaws.com"));
  EXPECT_FALSE(matches("*.amazonaws.com", ".amazonaws.com"));
  EXPECT_FALSE(matches("*.amazonaws.com", "evilamazonaws.com"));
  EXPECT_FALSE(matches("*.amazonaws.com", "amazonaws.com.evil.example"));
}

TEST(HostPattern, StandsForEverything) {
  EXPECT_TRUE(matches("*", "kms.example"));
  EXPECT_TRUE(matches("*", "10.0.0.1"));
}

TEST(HostPattern, HasAStarOnlyAsItsFirstLabel) {
  for (const char* text : {"", "a.*", "a*.example", "**.example", "*.*.example", "*.", "*.10.0.0.1", "*.1"}) {
    EXPECT_FALSE(HostPattern::parse(text)) << text;
  }
}

}  // namespace
}  // namespace nitro::proxy
