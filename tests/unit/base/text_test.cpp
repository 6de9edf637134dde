// SPDX-License-Identifier: Apache-2.0
#include "src/base/text.h"

#include <gtest/gtest.h>

#include <limits>

namespace nitro {
namespace {

TEST(Text, IsTrimmedAtItsEndsOnly) {
  EXPECT_EQ(trimmed(" \t a b\r\n"), "a b");
  EXPECT_EQ(trimmed(" \n"), "");
  EXPECT_EQ(trimmed(""), "");
  EXPECT_EQ(trimmed("\n a \n", " "), "\n a \n");
}

TEST(Text, HasAByteOrderMarkAtItsBeginningOnly) {
  EXPECT_TRUE(has_byte_order_mark("\xef\xbb\xbf{}"));
  EXPECT_TRUE(has_byte_order_mark("\xef\xbb\xbf"));
  for (const char* text : {"", "\xef\xbb", "{}", " \xef\xbb\xbf"}) EXPECT_FALSE(has_byte_order_mark(text)) << text;
}

TEST(Text, LosesCapitalsOfTheAlphabetOnly) {
  EXPECT_EQ(to_lower("Content-Type Z[@`"), "content-type z[@`");
  EXPECT_EQ(to_lower("\xc3\x9c"), "\xc3\x9c");
}

TEST(Text, OfSeveralLinesKeepsItsLinesAndNothingElseThatMovesTheCursor) {
  EXPECT_EQ(printable_lines("[ E19 ] File: none.\n\nMore\n"), "[ E19 ] File: none.\n\nMore\n");
  EXPECT_EQ(printable_lines("\x1b]0;a\a\x1b[2J\rx\n\x1b[1A\n"), "?]0;a??[2J?x\n?[1A\n");
  EXPECT_EQ(printable_lines(""), "");
}

TEST(Text, TellsMebibytesRoundedDown) {
  EXPECT_EQ(in_mib(0), "0.0");
  EXPECT_EQ(in_mib((1 << 20) - 1), "0.9");
  EXPECT_EQ(in_mib(3 << 19), "1.5");
  EXPECT_EQ(in_mib(std::numeric_limits<std::uint64_t>::max()), "17592186044415.9");
}

TEST(Text, TellsALimitInItsLargestWholeUnit) {
  EXPECT_EQ(limit_text(std::uint64_t{64} << 30), "64 GiB");
  EXPECT_EQ(limit_text(std::uint64_t{2} << 20), "2 MiB");
  EXPECT_EQ(limit_text((std::uint64_t{1} << 30) + (std::uint64_t{1} << 20)), "1025 MiB");
}

}  // namespace
}  // namespace nitro
