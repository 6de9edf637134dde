// SPDX-License-Identifier: Apache-2.0
#include "src/base/utf8.h"

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>

namespace nitro {
namespace {

TEST(Utf8, ReadsCharactersOfEverySize) {
  for (const auto& [text, value] : {std::pair<std::string, char32_t>{"A", 0x41},
                                    {"\xc2\x80", 0x80},
                                    {"\xdf\xbf", 0x7ff},
                                    {"\xe0\xa0\x80", 0x800},
                                    {"\xef\xbf\xbf", 0xffff},
                                    {"\xf0\x90\x80\x80", 0x10000},
                                    {"\xf4\x8f\xbf\xbf", 0x10ffff}}) {
    const CodePoint read = code_point_at("x" + text + "x", 1);
    EXPECT_TRUE(read.valid) << text;
    EXPECT_EQ(read.value, value);
    EXPECT_EQ(read.size, text.size());
  }
}

TEST(Utf8, RefusesOneByteAtATimeWhatIsNoCharacter) {
  for (const std::string text : {"\x80", "\xc0\x80", "\xc1\xbf", "\xc3", "\xe0\x9f\xbf", "\xe2\x80", "\xed\xa0\x80",
                                 "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xfe", "\xff"}) {
    const CodePoint read = code_point_at(text, 0);
    EXPECT_FALSE(read.valid);
    EXPECT_EQ(read.size, 1U);
  }
}

TEST(Utf8, TellsControlsFromText) {
  for (const char32_t control : std::initializer_list<char32_t>{0x00, 0x1f, 0x7f, 0x80, 0x85, 0x9f, 0x061c, 0x200e,
                                                                0x200f, 0x2028, 0x2029, 0x202a, 0x202e, 0x2066, 0x2069})
    EXPECT_TRUE(is_control(control)) << std::hex << static_cast<unsigned>(control);
  for (const char32_t shown : std::initializer_list<char32_t>{0x20, 0x7e, 0xa0, 0xfc, 0x200d, 0x2010, 0x2027, 0x202f,
                                                              0x2065, 0x206a, 0x10ffff})
    EXPECT_FALSE(is_control(shown)) << std::hex << static_cast<unsigned>(shown);
  EXPECT_TRUE(is_plain_text("größe"));
  EXPECT_FALSE(is_plain_text("a\u202e"));
  EXPECT_FALSE(is_plain_text("q\xfe"));
}

}  // namespace
}  // namespace nitro
