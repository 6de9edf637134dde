// SPDX-License-Identifier: Apache-2.0
#include "src/yaml/yaml.h"

#include <gtest/gtest.h>

#include "temp_folder.h"

namespace nitro {
namespace {

YamlValue value_of(const std::string& text) {
  auto value = YamlValue::parse(text, "f.yaml");
  EXPECT_OK(value);
  return std::move(*value);
}

std::string fault_of(const std::string& text) {
  const auto value = YamlValue::parse(text, "f.yaml");
  return value ? "it is valid" : value.error().message();
}

TEST(Yaml, ThatIsBrokenIsRefusedWithItsLine) {
  for (const char* text : {"a: 1\nb: [1, 2\n", "a: 1\n  b: 2\n", "- a\nb: c\n", "\na: *nothing\n", "\t- a\n"}) {
    EXPECT_EQ(fault_of(text).find("f.yaml:"), 0U) << text << fault_of(text);
  }
}

TEST(Yaml, ValuesThatAreMissingAreOnTheLineOfTheirKey) {
  const YamlValue file = value_of("a: 1\nb:\n\nc: 2\n");
  EXPECT_EQ(file.at("b").value().number(0, 1).error().message(), "f.yaml:2: \"b\": must be a whole number from 0 to 1");
}

TEST(Yaml, HasOneDocument) {
  EXPECT_EQ(fault_of("a: 1\n---\nb: 2\n"), "f.yaml:2: there is a second document here; only one is read");
  EXPECT_EQ(fault_of("---\na: 1\n...\n"), "it is valid");
  EXPECT_EQ(fault_of("%YAML 1.2\n---\na: 1\n"), "it is valid");
}

TEST(Yaml, EndsAtABracketThatClosesNothing) {
  EXPECT_EQ(fault_of("!!tag, =}\n"), "f.yaml:1: what begins here belongs to nothing before it");
  EXPECT_EQ(fault_of("a: 1\n...\nb: 2\n"), "f.yaml:3: what begins here belongs to nothing before it");
}

TEST(Yaml, MustBeText) {
  EXPECT_EQ(fault_of("a: 1\nb: \xFF\n"), "f.yaml:2: this is not UTF-8 text");
  EXPECT_EQ(fault_of(std::string("a: \0", 4)), "f.yaml:1: this is not UTF-8 text");
}

TEST(Yaml, HasASizeLimit) {
  EXPECT_EQ(fault_of(std::string(kMaxYamlBytes + 1, '#')),
            "f.yaml: larger than 1048576 bytes, the limit for this file");
  EXPECT_EQ(fault_of(std::string(kMaxYamlBytes, '#')), "it is valid");
}

TEST(Yaml, MayBeNestedDeeplyWithoutHarm) {
  EXPECT_EQ(fault_of(std::string(100'000, '[')).find("f.yaml"), 0U);
  EXPECT_EQ(fault_of(std::string(100'000, '{')).find("f.yaml"), 0U);
}

TEST(Yaml, CannotExpandWithoutEnd) {
  // Each list is ten times the one before.
  std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 8; ++i) {
    const std::string before = "*a" + std::to_string(i - 1);
    text += "a" + std::to_string(i) + ": &a" + std::to_string(i) + " [";
    for (int k = 0; k < 10; ++k) text += (k > 0 ? ", " : "") + before;
    text += "]\n";
  }
  const YamlValue file = value_of(text);
  const std::function<Result<void>(const YamlValue&)> walk = [&walk](const YamlValue& value) -> Result<void> {
    return value.is_list() ? value.for_each_item(walk) : Result<void>();
  };
  const auto list = file.at("a7");
  ASSERT_OK(list);
  const auto walked = walk(*list);
  ASSERT_FALSE(walked);
  EXPECT_NE(walked.error().message().find("the file has more than 65536 values"), std::string::npos);
}

TEST(Yaml, HasNumbersInARange) {
  const auto number = [](const std::string& text) {
    const auto value = value_of("n: " + text).at("n");
    const auto read = value->number(1, 65535);
    return read ? std::to_string(*read) : read.error().message();
  };
  EXPECT_EQ(number("443"), "443");
  EXPECT_EQ(number("65536"), "f.yaml:1: \"n\": must be a whole number from 1 to 65535, not \"65536\"");
  EXPECT_EQ(number("-1"), "f.yaml:1: \"n\": must be a whole number from 1 to 65535, not \"-1\"");
  EXPECT_EQ(number("4.5"), "f.yaml:1: \"n\": must be a whole number from 1 to 65535, not \"4.5\"");
  EXPECT_EQ(number("\"443\""), "f.yaml:1: \"n\": must be a whole number from 1 to 65535, not \"443\"");
  EXPECT_EQ(number("99999999999999999999"),
            "f.yaml:1: \"n\": must be a whole number from 1 to 65535, not \"99999999999999999999\"");
  EXPECT_EQ(number("[1]"), "f.yaml:1: \"n\": must be a whole number from 1 to 65535");
}

TEST(Yaml, NamesUnknownAndRepeatedKeys) {
  const auto read = [](const std::string& text) {
    const auto result = value_of(text).for_each_entry(
        {"a", "b"}, [](const std::string&, const YamlValue&) -> Result<void> { return {}; });
    return result ? "" : result.error().message();
  };
  EXPECT_EQ(read("a: 1\nb: 2\n"), "");
  EXPECT_EQ(read("a: 1\nc: 2\n"), "f.yaml:2: \"c\": this key is not known here; known keys: a, b");
  EXPECT_EQ(read("a: 1\nb: 1\na: 2\n"), "f.yaml:3: \"a\": this key is here twice");
  EXPECT_EQ(read("- a\n"), "f.yaml:1: must be a mapping with the keys a, b");
  EXPECT_EQ(read("[a]: 1\n"), "f.yaml:1: a key must be text");
}

TEST(Yaml, IsReadFromAFile) {
  const auto missing = YamlValue::load("/nonexistent/f.yaml");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().message(), "opening \"/nonexistent/f.yaml\": No such file or directory");
}

}  // namespace
}  // namespace nitro
