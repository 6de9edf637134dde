// SPDX-License-Identifier: Apache-2.0
#include "src/command/arguments.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace nitro {
namespace {

// What a program with one command made of its command line.
struct Outcome {
  std::optional<std::string> name;
  std::optional<std::string> version;
  std::vector<int> numbers;
  bool flag = false;
  std::string error;  // with the status that CLI11 gives it; empty: none
};

Outcome parse(std::vector<const char*> words) {
  words.insert(words.begin(), "program");
  Outcome outcome;
  CLI::App application("", "program");
  application.require_subcommand(1);
  auto* command = application.add_subcommand("build");
  command->add_option("--name", outcome.name);
  command->add_option("--version", outcome.version);
  command->add_option("--numbers", outcome.numbers)->expected(1, -1);
  command->add_flag("--flag", outcome.flag);
  try {
    parse_arguments(application, static_cast<int>(words.size()), words.data());
  } catch (const CLI::CallForHelp&) {
    outcome.error = "help";
  } catch (const CLI::ParseError& error) {
    outcome.error = error.what();
  }
  return outcome;
}

TEST(Arguments, KeepEmptyValuesEmpty) {
  for (const auto& words :
       {std::vector{"build", "--name=", "--version=1"}, {"build", "--name", "", "--version", "1"}}) {
    const auto outcome = parse(words);
    EXPECT_EQ(outcome.error, "");
    EXPECT_EQ(outcome.name, "");
    EXPECT_EQ(outcome.version, "1");
  }
}

TEST(Arguments, TakeNoOptionForAValueUnlessAnEqualsSignSaysSo) {
  EXPECT_NE(parse({"build", "--name", "--version", "1"}).error.find("--name needs a value"), std::string::npos);
  EXPECT_NE(parse({"build", "--name", "-x"}).error.find("write --name=-x"), std::string::npos);
  EXPECT_NE(parse({"build", "--name"}).error.find("--name needs a value"), std::string::npos);
  EXPECT_EQ(parse({"build", "--name=-x"}).name, "-x");
  EXPECT_EQ(parse({"build", "--name", "-"}).name, "-");
  EXPECT_EQ(parse({"build", "--name", "a=b"}).name, "a=b");
}

TEST(Arguments, NameWhatIsUnknown) {
  EXPECT_EQ(parse({"biuld"}).error, "\"biuld\" is not a command");
  EXPECT_EQ(parse({"build", "--nmae", "x"}).error, "there is no option \"--nmae\"");
  EXPECT_EQ(parse({"build", "-n"}).error, "there is no option \"-n\"");
  EXPECT_EQ(parse({"build", "word"}).error, "the argument \"word\" is not expected");
  EXPECT_EQ(parse({"build", "--flag=1"}).error, "--flag takes no value");
}

TEST(Arguments, TakeSeveralValuesAndFlags) {
  const auto outcome = parse({"build", "--numbers", "1", "2", "--flag", "--numbers", "3", "--name", "n"});
  EXPECT_EQ(outcome.error, "");
  EXPECT_EQ(outcome.numbers, (std::vector<int>{1, 2, 3}));
  EXPECT_TRUE(outcome.flag);
  EXPECT_EQ(outcome.name, "n");
}

TEST(Arguments, TakeHelpForACommand) {
  EXPECT_EQ(parse({"help"}).error, "help");
  EXPECT_EQ(parse({"help", "build"}).error, "help");
  EXPECT_EQ(parse({"build", "--help"}).error, "help");
  EXPECT_EQ(parse({"help", "biuld"}).error, "\"biuld\" is not a command");
}

}  // namespace
}  // namespace nitro
