// SPDX-License-Identifier: Apache-2.0
#include "eif/image/engine_report.h"

#include <gtest/gtest.h>

#include <vector>

#include "src/base/bytes.h"

namespace nitro::image {
namespace {

struct Heard {
  std::vector<std::string> lines;
  std::string error;
  std::deque<std::string> printed;
  bool operator==(const Heard&) const = default;
};

// What is heard of an answer that comes `step` bytes at a time.
Heard heard_of(const std::string& answer, std::size_t step) {
  Heard heard;
  const EngineReport::Listener listener = [&heard](std::string_view line) { heard.lines.emplace_back(line); };
  EngineReport report(listener);
  for (std::size_t at = 0; at < answer.size(); at += step)
    report.take(as_bytes(answer).subspan(at).first(std::min(step, answer.size() - at)));
  report.end();
  heard.error = report.error();
  heard.printed = report.printed();
  return heard;
}

TEST(EngineReport, IsTheSameHoweverItArrives) {
  const std::string answer =
      R"({"stream":"Step 1/2 : FROM scratch\n\n"})"
      "\r\n"
      R"({"status":"Downloading","progressDetail":{"current":3145728,"total":12582912},"id":"4f4fb700ef54"})"
      "\r\nno JSON\n\n"
      R"({"stream":"a\nb"})"
      "\n"
      R"({"errorDetail":{"code":7},"error":"it failed\n\n"})";
  const Heard expected{{"Step 1/2 : FROM scratch", "4f4fb700ef54: Downloading 3.0 of 12.0 MiB", "a", "b"},
                       "it failed",
                       {"Step 1/2 : FROM scratch", "a", "b"}};
  for (std::size_t step = 1; step <= answer.size(); ++step) EXPECT_EQ(heard_of(answer, step), expected) << step;
}

TEST(EngineReport, TellsOfAnErrorThatNoLineBreakFollows) {
  EXPECT_EQ(heard_of(R"({"error":"cut off"})", 1000).error, "cut off");
  EXPECT_EQ(heard_of("{\"error\":\"whole\"}\n", 1000).error, "whole");
  EXPECT_EQ(heard_of("{\"status\":\"fine\"}\n", 1000).error, "");
}

TEST(EngineReport, KeepsTheLastLinesThatABuildPrinted) {
  std::string answer;
  for (int i = 1; i <= 30; ++i) answer += R"({"stream":"line )" + std::to_string(i) + "\\n\"}\n";
  const auto printed = heard_of(answer, 100).printed;
  ASSERT_EQ(printed.size(), 20U);
  EXPECT_EQ(printed.front(), "line 11");
  EXPECT_EQ(printed.back(), "line 30");
  const auto long_line = heard_of(R"({"stream":")" + std::string(5000, 'x') + "\"}", 100).printed;
  EXPECT_EQ(long_line.front().size(), EngineReport::kMaxKeptLineBytes);
}

TEST(EngineReport, IsFitForATerminal) {
  EXPECT_EQ(heard_of(R"({"stream":"\u001b[31mred"})", 100).printed.front().find('\x1b'), std::string::npos);
}

}  // namespace
}  // namespace nitro::image
