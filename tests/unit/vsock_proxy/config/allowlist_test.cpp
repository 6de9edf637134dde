// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/config/allowlist.h"

#include <gtest/gtest.h>

#include <fstream>

#include "temp_folder.h"

namespace nitro::proxy {
namespace {

class AllowlistTest : public ::testing::Test {
 protected:
  Result<Allowlist> load(const std::string& text) {
    std::ofstream(path()) << text;
    return load_allowlist(path());
  }
  std::string path() const { return folder_ / "allow.yaml"; }
  testing::TempFolder folder_;
};

TEST_F(AllowlistTest, NamesServices) {
  const auto allowlist = load(
      "allowlist:\n"
      "- {address: kms.us-east-1.amazonaws.com, port: 443}\n"
      "- address: \"10.0.0.1\"\n"
      "  port: 8080\n"
      "  comment: other keys do no harm\n"
      "other: {}\n");
  ASSERT_OK(allowlist);
  EXPECT_FALSE(allowlist->fault);
  ASSERT_EQ(allowlist->services.size(), 2U);
  EXPECT_EQ(allowlist->services[0].address, "kms.us-east-1.amazonaws.com");
  EXPECT_EQ(allowlist->services[0].port, 443);
  EXPECT_EQ(allowlist->services[1].address, "10.0.0.1");
  EXPECT_EQ(allowlist->services[1].port, 8080);
}

TEST_F(AllowlistTest, KeepsWhatIsBeforeAFaultyEntry) {
  const auto allowlist = load("allowlist:\n- {address: a.example, port: 1}\n- {address: b.example, port: 65537}\n");
  ASSERT_OK(allowlist);
  ASSERT_TRUE(allowlist->fault);
  EXPECT_EQ(allowlist->fault->message(),
            path() + ":3: \"port\": must be a whole number from 0 to 65535, not \"65537\"");
  ASSERT_EQ(allowlist->services.size(), 1U);
}

TEST_F(AllowlistTest, NeedsAddressAndPort) {
  for (const char* entry : {"{address: a.example}", "{port: 1}", "{}", "a.example"}) {
    const auto allowlist = load(std::string("allowlist:\n- ") + entry + "\n");
    ASSERT_OK(allowlist);
    EXPECT_TRUE(allowlist->fault) << entry;
  }
}

TEST_F(AllowlistTest, MustBeThere) {
  for (const char* text : {"", "services: []\n", "- a\n", "allowlist: 1\n", "allowlist:\n", "allowlist: {a: b}\n"}) {
    EXPECT_FALSE(load(text)) << text;
  }
  EXPECT_OK(load("allowlist: []\n"));
}

}  // namespace
}  // namespace nitro::proxy
