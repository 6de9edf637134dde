// SPDX-License-Identifier: Apache-2.0
#include "nitro/text.h"

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

TEST(Text, TellsMebibytesRoundedDown) {
  EXPECT_EQ(in_mib(0), "0.0");
  EXPECT_EQ(in_mib((1 << 20) - 1), "0.9");
  EXPECT_EQ(in_mib(3 << 19), "1.5");
  EXPECT_EQ(in_mib(std::numeric_limits<std::uint64_t>::max()), "17592186044415.9");
}

}  // namespace
}  // namespace nitro
