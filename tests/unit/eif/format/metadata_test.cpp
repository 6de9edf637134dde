// SPDX-License-Identifier: Apache-2.0
#include "nitro/eif/metadata.h"

#include <chrono>
#include <cmath>

#include "nitro/eif/reader.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/json.h"
#include "src/base/rfc3339.h"
#include "tests/unit/eif/format/golden.h"

namespace nitro::eif {
namespace {

using testing::golden;
using testing::TempFolder;
using testing::write_file;

std::string rewritten(const std::string& text, unsigned indent = 0) {
  return json_text(parse_json(text, ErrorCode::kSerde).value(), indent);
}

TEST(JsonText, WritesNumbersAsTheReferenceDoes) {
  const std::pair<const char*, const char*> table[] = {
      {"0", "0"},
      {"-1", "-1"},
      {"18446744073709551615", "18446744073709551615"},
      {"-9223372036854775808", "-9223372036854775808"},
      {"18446744073709551616", "1.8446744073709552e19"},
      {"1.0", "1.0"},
      {"0.0", "0.0"},
      {"-0.0", "-0.0"},
      {"1e2", "100.0"},
      {"1.5", "1.5"},
      {"123.25", "123.25"},
      {"0.1", "0.1"},
      {"1e15", "1000000000000000.0"},
      {"1e16", "1e16"},
      {"1.25e16", "1.25e16"},
      {"1234567890123456.0", "1234567890123456.0"},
      {"1e-5", "0.00001"},
      {"1e-6", "1e-6"},
      {"1.5e-7", "1.5e-7"},
      {"1e300", "1e300"},
      {"5e-324", "5e-324"},
      {"1.7976931348623157e308", "1.7976931348623157e308"},
  };
  for (const auto& [in, out] : table) EXPECT_EQ(rewritten(in), out) << in;
}

TEST(JsonText, EscapesOnlyWhatItMust) {
  EXPECT_EQ(rewritten(R"("\"\\\/\b\f\n\r\t\u0000\u001f\u007fé\u00e9\ud83d\ude00")"),
            "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\x7f\u00e9\u00e9\U0001F600\"");
}

TEST(JsonText, IndentsAndKeepsEmptyContainersOnOneLine) {
  EXPECT_EQ(
      rewritten(R"({"a":[],"b":{},"c":[1,{"d":null}],"e":true})", 2),
      "{\n  \"a\": [],\n  \"b\": {},\n  \"c\": [\n    1,\n    {\n      \"d\": null\n    }\n  ],\n  \"e\": true\n}");
}

// The second column is what the reference's eif_build 0.3.1 writes into an image for the first.
TEST(JsonText, RoundsNumbersAsTheReferenceDoes) {
  const std::pair<const char*, const char*> table[] = {
      {"0.30000000000000004", "0.30000000000000004"},
      {"3.141592653589793", "3.141592653589793"},
      {"4.909210890303331e85", "4.9092108903033315e85"},
      {"1.7202096083832718e-40", "1.7202096083832716e-40"},
      {"-7.868629185585492e264", "-7.868629185585491e264"},
      {"1.7976931348623157e308", "1.7976931348623157e308"},
      {"2.2250738585072014e-308", "2.2250738585072014e-308"},
      {"1e-400", "0.0"},
      {"0e999999999999", "0.0"},
      {"1e-999999999999", "0.0"},
      {"-0", "-0.0"},
      {"9007199254740993", "9007199254740993"},
      {"9007199254740993.0", "9007199254740994.0"},
      {"-9223372036854775809", "-9.223372036854776e18"},
      {"18446744073709551615.9", "1.8446744073709552e19"},
      {"1844674407370955161.5", "1.8446744073709553e18"},
      {"123456789012345678901234567890", "1.2345678901234568e29"},
      {"184467440737095516150000.25e-10", "18446744073709.55"},
      {"100000000000000000000000000000e-10", "1e19"},
  };
  for (const auto& [in, out] : table) EXPECT_EQ(rewritten(in), out) << in;
  for (const char* text : {"1.7976931348623158e308", "1e309", "1e999999999999", "10000e2147483647"}) {
    EXPECT_FALSE(parse_json(text, ErrorCode::kSerde)) << text;
  }
}

TEST(Metadata, SurvivesWritingAndReading) {
  Metadata metadata{.image_name = "a \"name\"",
                    .image_version = "1",
                    .build = {.build_time = "t",
                              .build_tool = "b",
                              .build_tool_version = "2",
                              .operating_system = "o",
                              .kernel_version = "k"},
                    .docker_info = {{"b", 1}, {"a", {{"d", nullptr}, {"c", 1.5}}}},
                    .custom = {1, "x"}};
  const std::string text = serialize_metadata(metadata);
  EXPECT_EQ(text,
            R"({"ImageName":"a \"name\"","ImageVersion":"1","BuildMetadata":{"BuildTime":"t","BuildTool":"b",)"
            R"("BuildToolVersion":"2","OperatingSystem":"o","KernelVersion":"k"},"DockerInfo":{"a":{"c":1.5,"d":null},)"
            R"("b":1},"CustomMetadata":[1,"x"]})");
  const auto again = parse_metadata(text);
  ASSERT_OK(again);
  metadata.docker_info = with_sorted_keys(metadata.docker_info);
  EXPECT_EQ(*again, metadata);
}

TEST(Metadata, OfEveryGoldenImageIsWrittenBackByteForByte) {
  for (const std::string& name : testing::golden_images()) {
    const auto reader = Reader::open(golden("eif/" + name + "/image.eif"));
    ASSERT_OK(reader);
    std::string text;
    ASSERT_OK(
        reader->read(*reader->find(SectionType::kMetadata), [&](std::span<const std::byte> bytes) -> Result<void> {
          text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
          return {};
        }));
    const auto metadata = parse_metadata(text);
    ASSERT_OK(metadata);
    EXPECT_EQ(serialize_metadata(*metadata), text) << name;
  }
}

TEST(CustomMetadata, MayHave4096BytesAndNoMore) {
  const TempFolder folder;
  write_file(folder / "fits.json", "\"" + std::string(4094, 'x') + "\"");
  write_file(folder / "large.json", "\"" + std::string(4095, 'x') + "\"");
  EXPECT_OK(read_custom_metadata(folder / "fits.json"));
  const auto large = read_custom_metadata(folder / "large.json");
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().code(), ErrorCode::kFileOperation);
}

TEST(CustomMetadata, MayComeFromAPipe) {
  auto pipe = make_pipe();
  ASSERT_OK(pipe);
  ASSERT_OK(write_all(pipe->second.get(), as_bytes(R"({"a":1})")));
  pipe->second.reset();
  const auto json = read_custom_metadata("/proc/self/fd/" + std::to_string(pipe->first.get()));
  ASSERT_OK(json);
  EXPECT_EQ(json_text(*json, 0), R"({"a":1})");
}

TEST(CustomMetadata, NamesTheFileInErrors) {
  const TempFolder folder;
  write_file(folder / "broken.json", "{");
  for (const char* name : {"broken.json", "missing.json"}) {
    const auto json = read_custom_metadata(folder / name);
    ASSERT_FALSE(json);
    EXPECT_NE(json.error().message().find(name), std::string::npos) << json.error().message();
  }
}

TEST(KernelIdentity, ComesFromTheThirdLineOfTheConfiguration) {
  const TempFolder folder;
  const auto identity = [&](const std::string& text) {
    write_file(folder / "config", text);
    return read_kernel_identity(folder / "config");
  };
  const auto check = [&](const std::string& text, const char* system, const char* version) {
    const auto kernel = identity(text);
    ASSERT_OK(kernel);
    EXPECT_EQ(kernel->operating_system, system) << text;
    EXPECT_EQ(kernel->version, version) << text;
  };
  check("#\n#\n# Linux/x86_64 4.14.177-104.253.amzn2.x86_64 Kernel Configuration\n#\n", "Linux", "4.14.177");
  check("#\n#\n# Linux/arm64 6.12.1 Kernel Configuration", "Linux", "6.12.1");
  check("#\n#\n# Linux\n", "Linux", "Unknown");
  check("#\n#\n#\n", "Unknown", "Unknown");
  for (const char* text : {"", "#\n", "#\n#\n"}) {
    const auto kernel = identity(text);
    ASSERT_FALSE(kernel) << text;
    EXPECT_EQ(kernel.error().code(), ErrorCode::kEifBuilding);
  }
}

TEST(BuildTime, IsSourceDateEpochWhenSet) {
  const testing::ScopedEnvironment epoch("SOURCE_DATE_EPOCH", "1714979289");
  EXPECT_EQ(default_build_time().value(), "2024-05-06T07:08:09+00:00");
}

TEST(BuildTime, RefusesASourceDateEpochThatIsNoTime) {
  for (const char* value : {"", "x", "1x", "-1", "253402300800", "99999999999999999999", " 1"}) {
    const testing::ScopedEnvironment epoch("SOURCE_DATE_EPOCH", value);
    const auto time = default_build_time();
    ASSERT_FALSE(time) << value;
    EXPECT_EQ(time.error().code(), ErrorCode::kInvalidArgument);
  }
}

TEST(BuildTime, IsTheTextThatTheUserGives) {
  const testing::ScopedEnvironment epoch("SOURCE_DATE_EPOCH", "x");
  for (const char* text :
       {"2024-05-06T07:08:09.123456+00:00", "2024-05-06T07:08:09Z", "2024-02-29t00:00:00z", "2024-12-31 23:59:60-23:59",
        "0000-01-01T00:00:00.0Z", "9999-12-31T23:59:59.999999999999+14:00"}) {
    EXPECT_EQ(build_time_or_default(text).value(), text);
  }
}

TEST(BuildTime, RefusesATextThatIsNoTime) {
  const std::string good = "2024-05-06T07:08:09Z";
  std::vector<std::string> bad{"now",
                               "1714979289",
                               "2024-05-06",
                               "2024-05-06T07:08:09",
                               "2023-02-29T07:08:09Z",
                               "2024-13-06T07:08:09Z",
                               "2024-00-06T07:08:09Z",
                               "2024-04-31T07:08:09Z",
                               "2024-05-00T07:08:09Z",
                               "2024-05-06T24:08:09Z",
                               "2024-05-06T07:60:09Z",
                               "2024-05-06T07:08:61Z",
                               "2024-05-06T07:08:09.Z",
                               "2024-05-06T07:08:09+24:00",
                               "2024-05-06T07:08:09+00:60",
                               "2024-05-06T07:08:09+0000",
                               "2024-05-06T07:08:09+00",
                               "2024-05-06X07:08:09Z",
                               "24-05-06T07:08:09Z",
                               "+2024-05-06T07:08:09Z",
                               good + " ",
                               " " + good,
                               good + "\n",
                               good + std::string(1, '\0'),
                               "\xff"};
  for (std::size_t size = 0; size < good.size(); ++size) bad.push_back(good.substr(0, size));
  for (const std::string& text : bad) {
    const auto time = build_time_or_default(text);
    ASSERT_FALSE(time) << text;
    EXPECT_EQ(time.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_TRUE(time.error().message().starts_with("--build-time ")) << time.error().message();
  }
}

TEST(BuildTime, OfEveryImageOfTheReferenceIsATime) {
  for (const std::string& name : testing::golden_images()) {
    const auto metadata = Reader::open(golden("eif/" + name + "/image.eif"))->metadata();
    ASSERT_OK(metadata);
    EXPECT_TRUE(parse_rfc3339((*metadata)->build.build_time)) << (*metadata)->build.build_time;
  }
}

TEST(BuildTime, IsATimeByDefault) {
  for (const char* epoch : {"0", "1714979289", "253402300799"}) {
    const testing::ScopedEnvironment variable("SOURCE_DATE_EPOCH", epoch);
    EXPECT_TRUE(parse_rfc3339(build_time_or_default({}).value())) << epoch;
  }
  const testing::ScopedEnvironment epoch("SOURCE_DATE_EPOCH", nullptr);
  EXPECT_TRUE(parse_rfc3339(build_time_or_default({}).value()));
}

TEST(RequireUtf8, TakesEveryCharacterAndNamesWhatIsNone) {
  for (const char* text : {"", "a \"name\"\\", "\x01\x7f", "ä€\U0001F600"}) EXPECT_OK(require_utf8("--name", text));
  EXPECT_OK(require_utf8("--name", std::string_view("a\0b", 3)));
  for (const char* text : {"\xff", "a\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80"}) {
    const auto refused = require_utf8("--name", text);
    ASSERT_FALSE(refused) << text;
    EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidArgument);
    EXPECT_TRUE(refused.error().message().starts_with("--name is not UTF-8")) << refused.error().message();
  }
}

TEST(BuildTime, IsNowInUtcOtherwise) {
  const testing::ScopedEnvironment epoch("SOURCE_DATE_EPOCH", nullptr);
  // time(2) may be behind this clock.
  const auto now = [] { return std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()); };
  const auto before = now();
  const std::string time = default_build_time().value();
  const auto after = now();
  EXPECT_TRUE(time.ends_with("+00:00")) << time;
  const auto told = parse_rfc3339(time);
  ASSERT_TRUE(told) << time;
  EXPECT_LE(before, *told);
  EXPECT_LE(*told, after);
}

}  // namespace
}  // namespace nitro::eif
