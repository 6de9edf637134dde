// SPDX-License-Identifier: Apache-2.0
#include "src/base/memory_size.h"

#include <gtest/gtest.h>

namespace nitro {
namespace {

TEST(MemorySize, UnderstandsNumbersWithAndWithoutUnits) {
  const std::pair<const char*, std::uint64_t> cases[] = {
      {"0", 0},     {"64", 64},      {"512M", 512},   {"512m", 512}, {"2G", 2048},
      {"2g", 2048}, {"1T", 1048576}, {"1t", 1048576}, {"007", 7},    {"17592186044415", 17592186044415}};
  for (const auto& [text, mib] : cases) {
    const auto size = MemorySize::parse(text);
    ASSERT_TRUE(size) << text;
    EXPECT_EQ(size->mib(), mib) << text;
  }
}

TEST(MemorySize, RefusesWhatIsNotAnAmount) {
  for (const char* text : {"", "M", "-1", "+1", " 1", "1 M", "1MB", "256_mb", "1K", "0x10", "1.5G", "17592186044416",
                           "16777216T", "99999999999999999999", "1Gi"}) {
    const auto size = MemorySize::parse(text);
    ASSERT_FALSE(size) << text;
    EXPECT_EQ(size.error().code(), ErrorCode::kInvalidArgument) << text;
  }
}

TEST(MemorySize, RoundsBytesUpToWholeMebibytes) {
  EXPECT_EQ(MemorySize::from_bytes(0).mib(), 0U);
  EXPECT_EQ(MemorySize::from_bytes(1).mib(), 1U);
  EXPECT_EQ(MemorySize::from_bytes(kMiB).mib(), 1U);
  EXPECT_EQ(MemorySize::from_bytes(kMiB + 1).mib(), 2U);
  EXPECT_EQ(MemorySize::from_bytes(~std::uint64_t{0}).mib(), 17592186044416U);
}

}  // namespace
}  // namespace nitro
