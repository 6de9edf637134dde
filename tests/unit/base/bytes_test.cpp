// SPDX-License-Identifier: Apache-2.0
#include "src/base/bytes.h"

#include <gtest/gtest.h>

#include <array>

namespace nitro {
namespace {

TEST(Bytes, StoresAndLoadsIntegersInTheNamedOrder) {
  std::array<std::byte, 8> buffer{};
  store_be<std::uint32_t>(buffer, 0x01020304);
  EXPECT_EQ(to_hex(buffer), "0102030400000000");
  EXPECT_EQ(load_be<std::uint32_t>(buffer), 0x01020304U);
  EXPECT_EQ(load_le<std::uint32_t>(buffer), 0x04030201U);
  store_le<std::uint64_t>(buffer, 0xeec0);
  EXPECT_EQ(to_hex(buffer), "c0ee000000000000");
}

TEST(Bytes, QuotesWhatCouldConfuseATerminal) {
  EXPECT_EQ(quote("plain"), "\"plain\"");
  EXPECT_EQ(quote("a\"b\\c\x1b[0m\n"), "\"a\\\"b\\\\c\\x1b[0m\\x0a\"");
  EXPECT_EQ(quote("größe 漢 😀"), "\"größe 漢 😀\"");
  EXPECT_EQ(quote("\u0085\u202e\u2028"), "\"\\u{85}\\u{202e}\\u{2028}\"");
  EXPECT_EQ(quote("q\xfe\xc3"), "\"q\\xfe\\xc3\"");
}

TEST(Bytes, MakesWhatOthersSayFitForATerminal) {
  EXPECT_EQ(printable("plain größe\x1b[0m\r\n\x7f"), "plain größe?[0m???");
  EXPECT_EQ(printable("a\u202eb\u009bc\xff"), "a?b?c?");
}

}  // namespace
}  // namespace nitro
