// SPDX-License-Identifier: Apache-2.0
#include "src/command/output.h"

#include <gtest/gtest.h>

#include <sstream>

#include "src/base/json.h"

namespace nitro {
namespace {

std::string printed(const nlohmann::ordered_json& json) {
  std::ostringstream out;
  print_json(out, json);
  return out.str();
}

TEST(PrintJson, KeepsTextsThatCanBeShown) {
  EXPECT_EQ(printed("größe \u20ac \U0001F600 ~"), "\"größe \u20ac \U0001F600 ~\"\n");
}

TEST(PrintJson, LeavesNoCharacterThatATerminalWouldObey) {
  const std::string text = "\x1b[2J\x7f\r\n\t";
  EXPECT_EQ(printed(text), R"("\u001b[2J\u007f\r\n\t")"
                           "\n");
  EXPECT_EQ(parse_json(printed(text), ErrorCode::kSerde).value(), text);
}

}  // namespace
}  // namespace nitro
