// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/setup/options.h"

#include <gtest/gtest.h>

namespace nitro::setup {
namespace {

CommandLine parse(std::vector<const char*> words) {
  words.insert(words.begin(), "nitro-cli-config");
  return parse_options(static_cast<int>(words.size()), words.data());
}

TEST(SetupOptions, KeepTheOrderOfActions) {
  const auto line = parse({"-r", "-m", "512", "-b", "-i", "-d", "there", "-b"});
  ASSERT_TRUE(line.options) << line.text;
  EXPECT_EQ(line.options->actions, (std::vector{Action::kRemove, Action::kBuild, Action::kInsert, Action::kBuild}));
  EXPECT_EQ(line.options->driver_folder, "there");
  EXPECT_EQ(line.options->resources.memory_mib, 512U);
}

TEST(SetupOptions, MayBeWrittenTogether) {
  const auto line = parse({"-vbi", "-m256", "-t2"});
  ASSERT_TRUE(line.options) << line.text;
  EXPECT_TRUE(line.options->verbose);
  EXPECT_EQ(line.options->actions, (std::vector{Action::kBuild, Action::kInsert}));
  EXPECT_EQ(line.options->resources.memory_mib, 256U);
  EXPECT_EQ(line.options->resources.cpu_count, 2U);
}

TEST(SetupOptions, TakeTheLastOfSeveralValues) {
  const auto line = parse({"-m", "1", "-m", "0512", "-d", "a", "-d", "b"});
  ASSERT_TRUE(line.options) << line.text;
  EXPECT_EQ(line.options->resources.memory_mib, 512U);
  EXPECT_EQ(line.options->driver_folder, "b");
}

TEST(SetupOptions, TakeEachCpuOnce) {
  const auto line = parse({"-p", "7,2-3,3"});
  ASSERT_TRUE(line.options) << line.text;
  EXPECT_EQ(line.options->resources.cpus, (std::vector<std::uint32_t>{2, 3, 7}));
}

TEST(SetupOptions, UseSudoUnlessToldNot) {
  EXPECT_TRUE(parse({"-i"}).options->use_sudo);
  EXPECT_FALSE(parse({"-i", "--no-sudo"}).options->use_sudo);
  EXPECT_TRUE(parse({"-s"}).options);
}

TEST(SetupOptions, AreRefusedWithTheReason) {
  const std::vector<std::pair<std::vector<const char*>, const char*>> cases = {
      {{}, "Nothing to do"},
      {{"-z"}, "-z"},
      {{"-i", "-z"}, "-z"},
      {{"more"}, "more"},
      {{"-i", "more"}, "more"},
      {{"-m"}, "-m"},
      {{"-m", "-i"}, "-m"},
      {{"-p", "1", "-t", "2"}, "excludes"},
      {{"-m", "0"}, "-m must be an amount of memory in MiB, from 1 to 67108864, not \"0\""},
      {{"-m", "-1"}, "-m"},
      {{"-m", "512M"}, "not \"512M\""},
      {{"-m", "18446744073709551616"}, "-m must be"},
      {{"-m", ""}, "not \"\""},
      {{"-m", "1\033[2J"}, "not \"1\\x1b[2J\""},
      {{"-t", "0"}, "-t must be a number of CPUs, from 1 to 65536, not \"0\""},
      {{"-t", "65537"}, "-t must be"},
      {{"-t", "two"}, "not \"two\""},
      {{"-p", ""}, "-p must be a list of CPUs"},
      {{"-p", "0"}, "without CPU 0"},
      {{"-p", "0-3"}, "without CPU 0"},
      {{"-p", "3-1"}, "-p must be a list of CPUs"},
      {{"-p", "1,x"}, "-p must be a list of CPUs"},
      {{"-p", "1-4294967296"}, "-p must be a list of CPUs"},
      {{"-d", ""}, "-d must name a folder"},
      {{"--memory", "512"}, "--memory"},
  };
  for (const auto& [words, reason] : cases) {
    const auto line = parse(words);
    EXPECT_FALSE(line.options) << reason;
    EXPECT_EQ(line.status, 1) << reason;
    EXPECT_NE(line.text.find(reason), std::string::npos) << line.text;
  }
}

TEST(SetupOptions, ThatAskForHelpDoNothingElse) {
  for (const auto& words : {std::vector<const char*>{"-h"}, {"-i", "-h"}, {"-h", "-m", "512"}}) {
    const auto line = parse(words);
    EXPECT_FALSE(line.options);
    EXPECT_EQ(line.status, 0);
    EXPECT_NE(line.text.find("-t COUNT"), std::string::npos) << line.text;
  }
  EXPECT_EQ(parse({"-V"}).status, 0);
}

}  // namespace
}  // namespace nitro::setup
