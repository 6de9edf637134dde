// SPDX-License-Identifier: Apache-2.0
#include "src/base/json.h"

#include <gtest/gtest.h>

#include <string>

namespace nitro {
namespace {

Result<nlohmann::ordered_json> parse(std::string_view text) {
  return parse_json(text, ErrorCode::kSerde);
}

TEST(ParseJson, KeepsTheOrderOfKeysAndLetsTheLastOfEqualOnesCount) {
  EXPECT_EQ(parse(R"({"b":1,"a":{"z":1,"Z":[{},[]],"z":3,"z":2},"b":[4],"":null})")->dump(),
            R"({"b":[4],"a":{"z":2,"Z":[{},[]]},"":null})");
}

TEST(ParseJson, TakesEveryKindOfValueAsTheWholeText) {
  for (const char* text : {"null", "true", "false", "0", "-1", "18446744073709551615", "1.5", "\"\"", "[]", "{}"}) {
    const auto json = parse(text);
    ASSERT_TRUE(json) << text;
    EXPECT_EQ(json->dump(), text);
  }
}

TEST(ParseJson, RefusesWhatIsNoJson) {
  for (const char* text : {"", " ", "{", "[1,]", "{\"a\":1,}", "01", "1.", "nul", "\"a", "\"\xff\"", "\"\\ud800\"",
                           "1 2", "'a'", "NaN", "1e999", "\"\x01\"", "// c\n1"}) {
    const auto json = parse_json(text, ErrorCode::kSerde);
    ASSERT_FALSE(json) << text;
    EXPECT_EQ(json.error().code(), ErrorCode::kSerde) << text;
  }
}

TEST(ParseJson, RefusesAByteOrderMarkByItsName) {
  const auto json = parse_json("\xef\xbb\xbf{}", ErrorCode::kSerde);
  ASSERT_FALSE(json);
  EXPECT_EQ(json.error().code(), ErrorCode::kSerde);
  EXPECT_NE(json.error().message().find("byte order mark"), std::string::npos);
}

TEST(ParseJson, RefusesNestingBeyondTheLimit) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(parse(nested(kMaxJsonDepth)));
  EXPECT_FALSE(parse(nested(kMaxJsonDepth + 1)));
  EXPECT_FALSE(parse(nested(500000)));
  EXPECT_FALSE(parse(std::string(500000, '[')));
  std::string objects;
  for (int i = 0; i < 200000; ++i) objects += "{\"a\":";
  EXPECT_NE(parse(objects).error().message().find("nested deeper"), std::string::npos);
}

// Every search for a key among all others would make this take an hour.
TEST(ParseJson, TakesAnObjectOfManyMembers) {
  std::string text = "{";
  for (std::size_t i = 0; i < 500000; ++i) text += "\"k" + std::to_string(i) + "\":" + std::to_string(i) + ",";
  text += "\"k0\":-1}";
  const auto json = parse(text);
  ASSERT_TRUE(json);
  EXPECT_EQ(json->size(), 500000U);
  EXPECT_EQ(json->begin().value(), -1);
  EXPECT_EQ(with_sorted_keys(*json).begin().key(), "k0");
}

TEST(ParseJson, RefusesMoreValuesThanTheLimit) {
  const auto zeros = [](std::size_t count) {
    std::string text = "[0";
    for (std::size_t i = 1; i < count; ++i) text += ",0";
    return text + "]";
  };
  EXPECT_TRUE(parse(zeros(kMaxJsonValues - 1)));
  EXPECT_NE(parse(zeros(kMaxJsonValues)).error().message().find("values"), std::string::npos);
}

TEST(ParseJson, RefusesATextBeyondTheLimit) {
  EXPECT_TRUE(parse("1" + std::string(kMaxJsonBytes - 1, ' ')));
  EXPECT_NE(parse("1" + std::string(kMaxJsonBytes, ' ')).error().message().find("bytes"), std::string::npos);
}

TEST(WithSortedKeys, SortsByBytesAtEveryLevel) {
  EXPECT_EQ(with_sorted_keys(*parse(R"({"b":1,"a":{"z":1,"é":2,"Z":3},"c":[{"y":0,"x":0}]})")).dump(),
            R"({"a":{"Z":3,"z":1,"é":2},"b":1,"c":[{"x":0,"y":0}]})");
}

TEST(JsonValues, AreFoundByKeyOrNotAtAll) {
  const auto json = parse(R"({"text":"t","array":[1],"null":null,"number":1})");
  EXPECT_EQ(text_at(*json, "text"), "t");
  EXPECT_EQ(text_at(*json, "number"), "");
  EXPECT_EQ(text_at(nlohmann::ordered_json("t"), "text"), "");
  EXPECT_NE(value_at(*json, "number"), nullptr);
  EXPECT_EQ(value_at(*json, "null"), nullptr);
  EXPECT_EQ(value_at(*json, "missing"), nullptr);
  EXPECT_NE(array_at(*json, "array"), nullptr);
  EXPECT_EQ(array_at(*json, "text"), nullptr);
}

}  // namespace
}  // namespace nitro
