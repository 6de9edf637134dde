// SPDX-License-Identifier: Apache-2.0
#include "src/base/rfc3339.h"

#include <gtest/gtest.h>

#include <utility>

namespace nitro {
namespace {

TEST(Rfc3339, IsWrittenWithAsManyDecimalsAsNeeded) {
  EXPECT_EQ(rfc3339(0), "1970-01-01T00:00:00+00:00");
  EXPECT_EQ(rfc3339(1714979289, 500'000'000), "2024-05-06T07:08:09.500+00:00");
  EXPECT_EQ(rfc3339(1714979289, 1'000), "2024-05-06T07:08:09.000001+00:00");
  EXPECT_EQ(rfc3339(1714979289, 1), "2024-05-06T07:08:09.000000001+00:00");
  EXPECT_EQ(rfc3339(kLastRfc3339Second), "9999-12-31T23:59:59+00:00");
}

TEST(Rfc3339, IsReadInEverySpellingThatItAllows) {
  for (const char* text : {"2024-05-06T07:08:09Z", "2024-05-06t07:08:09z", "2024-05-06 07:08:09.123456+00:00",
                           "2024-05-06T07:08:09.1-00:00", "2024-05-06T09:38:09+02:30", "2024-05-05T23:08:09-08:00"}) {
    EXPECT_EQ(parse_rfc3339(text), 1714979289) << text;
  }
  EXPECT_EQ(parse_rfc3339("2016-12-31T23:59:60Z"), 1483228800);
  EXPECT_EQ(parse_rfc3339("0000-01-01T00:00:00Z"), -62167219200);
  for (const std::time_t seconds : {std::time_t{0}, std::time_t{1714979289}, std::time_t{kLastRfc3339Second}}) {
    EXPECT_EQ(parse_rfc3339(rfc3339(seconds, 999)), seconds);
  }
}

TEST(Rfc3339, IsNothingElse) {
  for (const char* text : {"",
                           "now",
                           "2024-05-06",
                           "2024-05-06T07:08:09",
                           "2024-05-06T07:08Z",
                           "2024-05-06T07:08:09.Z",
                           "2024-05-06T07:08:09+0000",
                           "2024-05-06T07:08:09+00",
                           "2024-05-06T07:08:09Z ",
                           " 2024-05-06T07:08:09Z",
                           "2024-5-6T07:08:09Z",
                           "2024-13-06T07:08:09Z",
                           "2024-02-30T07:08:09Z",
                           "2023-02-29T07:08:09Z",
                           "2024-05-06T24:08:09Z",
                           "2024-05-06T07:60:09Z",
                           "2024-05-06T07:08:61Z",
                           "2024-05-06T07:08:09+24:00",
                           "20240506T070809Z",
                           "+024-05-06T07:08:09Z",
                           "2024-05-06T07:08:09,5Z"}) {
    EXPECT_FALSE(parse_rfc3339(text)) << text;
  }
}

}  // namespace
}  // namespace nitro
