// SPDX-License-Identifier: Apache-2.0
#include "src/command/program.h"

#include <gtest/gtest.h>

#include <iostream>
#include <stdexcept>

namespace nitro {
namespace {

TEST(Program, ReturnsItsExitStatus) {
  EXPECT_EQ(run_program(0, nullptr, [](int, char**) { return 7; }), 7);
}

TEST(Program, ThatThrowsSaysSoAndFails) {
  testing::internal::CaptureStderr();
  const int status = run_program(0, nullptr, [](int, char**) -> int { throw std::runtime_error("a bug"); });
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "Error: internal error: a bug; please report it\n");
  EXPECT_EQ(status, 1);
}

TEST(Program, FailsWhenItsOutputCannotBeWritten) {
  testing::internal::CaptureStderr();
  std::cout.setstate(std::ios::badbit);
  const int status = finish_output();
  std::cout.clear();
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "Error: the output cannot be written\n");
  EXPECT_EQ(status, 1);
  EXPECT_EQ(finish_output(), 0);
}

}  // namespace
}  // namespace nitro
