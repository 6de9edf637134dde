// SPDX-License-Identifier: Apache-2.0
#include "src/command/image_commands.h"

#include <gtest/gtest.h>

#include <vector>

namespace nitro::cli {
namespace {

bool handed_on(std::vector<const char*> words) {
  words.insert(words.begin(), "nitro-cli");
  return is_for_image_program(static_cast<int>(words.size()), words.data());
}

TEST(ImageCommands, AreThoseThatMakeImages) {
  for (const char* command : {"build-enclave", "sign-eif"}) {
    EXPECT_TRUE(handed_on({command}));
    EXPECT_TRUE(handed_on({command, "--help"}));
    EXPECT_TRUE(handed_on({"help", command}));
    EXPECT_FALSE(handed_on({"--version", command}));
    EXPECT_FALSE(handed_on({"describe-eif", "--eif-path", command}));
    EXPECT_FALSE(handed_on({"help", "help", command}));
  }
  for (const std::vector<const char*>& words :
       {std::vector<const char*>{}, {"help"}, {"pcr"}, {"build"}, {"build-enclaves"}, {""}}) {
    EXPECT_FALSE(handed_on(words));
  }
  EXPECT_FALSE(is_for_image_program(0, nullptr));
}

}  // namespace
}  // namespace nitro::cli
