// SPDX-License-Identifier: Apache-2.0
#include "src/base/cbor.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "src/base/bytes.h"

namespace nitro {
namespace {

TEST(Cbor, ReadsWhatItWrites) {
  const std::string bytes("\0\x18\xff", 3);
  const auto written = CborOutput()
                           .map(2)
                           .text("key")
                           .boolean(true)
                           .integer(-1)
                           .array(3)
                           .byte_string(as_bytes(bytes))
                           .byte_array(as_bytes(bytes))
                           .integer(std::numeric_limits<std::int64_t>::min())
                           .take();
  CborInput input(written);
  EXPECT_EQ(input.map(), 2U);
  EXPECT_EQ(input.text(), "key");
  EXPECT_EQ(input.boolean(), true);
  EXPECT_EQ(input.integer(), -1);
  EXPECT_EQ(input.array(), 3U);
  EXPECT_EQ(as_text(*input.byte_string()), bytes);
  EXPECT_EQ(as_text(*input.byte_array()), bytes);
  EXPECT_EQ(input.integer(), std::numeric_limits<std::int64_t>::min());
  EXPECT_TRUE(input.at_end());
  EXPECT_FALSE(input.failed());

  CborInput whole(written);
  EXPECT_TRUE(whole.skip());
  EXPECT_TRUE(whole.at_end());
  for (std::size_t size = 0; size < written.size(); ++size) {
    CborInput cut{std::span(written).first(size)};
    EXPECT_FALSE(cut.skip()) << size;
  }
}

TEST(Cbor, FailsForGoodAfterAnItemOfAnotherKind) {
  const auto written = CborOutput().boolean(false).text("").take();
  CborInput input(written);
  EXPECT_EQ(input.text(), std::nullopt);
  EXPECT_TRUE(input.failed());
  EXPECT_EQ(input.boolean(), std::nullopt);
  EXPECT_FALSE(input.skip());
}

TEST(Cbor, BelievesNoCountThatTheBytesCannotHold) {
  for (const std::string& text :
       {std::string("\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x00", 10),
        std::string("\xbb\x7f\xff\xff\xff\xff\xff\xff\xff\x00", 10), std::string("\x82\x00", 2),
        std::string(200000, '\x82'), std::string("\x9f\xff"), std::string("\x7f\x60\xff")}) {
    CborInput input(as_bytes(text));
    EXPECT_FALSE(input.skip()) << to_hex(as_bytes(text.substr(0, 16)));
    CborInput again(as_bytes(text));
    EXPECT_EQ(again.byte_array(), std::nullopt);
  }
}

}  // namespace
}  // namespace nitro
