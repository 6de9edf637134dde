// SPDX-License-Identifier: Apache-2.0
#include "src/base/cpu_list.h"

#include <gtest/gtest.h>

#include "temp_folder.h"

namespace nitro {
namespace {

using Ids = std::vector<std::uint32_t>;

TEST(CpuList, IsReadAsTheKernelWritesIt) {
  for (const auto& [text, ids] : {std::pair<std::string, Ids>{"0-3\n", {0, 1, 2, 3}},
                                  {"", {}},
                                  {"\n", {}},
                                  {"7", {7}},
                                  {"2,3,6-9", {2, 3, 6, 7, 8, 9}},
                                  {" 5 , 1 - 2 ", {5, 1, 2}}}) {
    const auto list = parse_cpu_list(text);
    ASSERT_OK(list);
    EXPECT_EQ(*list, ids) << text;
  }
}

TEST(CpuList, ThatIsWrongIsRefused) {
  for (const char* text : {"a", "1,,2", "1-", "-1", "3-1", "1-2-3", "65536", "1;2"}) {
    EXPECT_FALSE(parse_cpu_list(text)) << text;
  }
}

TEST(CpuList, IsWrittenAsShortAsPossible) {
  EXPECT_EQ(cpu_list_of({}), "");
  EXPECT_EQ(cpu_list_of({4}), "4");
  EXPECT_EQ(cpu_list_of({9, 2, 3, 7, 6, 8, 3}), "2-3,6-9");
  EXPECT_EQ(cpu_list_of({1, 3, 5}), "1,3,5");
}

}  // namespace
}  // namespace nitro
