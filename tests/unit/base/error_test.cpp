// SPDX-License-Identifier: Apache-2.0
#include "nitro/error.h"

#include <gtest/gtest.h>

#include <set>

#include "nitro/result.h"

namespace nitro {
namespace {

TEST(ErrorTable, HasARowWithTextForEveryCode) {
  ASSERT_EQ(error_table().size(), 61U);
  std::set<std::string_view> names;
  for (const ErrorDescription& row : error_table()) {
    EXPECT_EQ(&describe(row.code), &row);
    EXPECT_FALSE(row.name.empty() || row.meaning.empty() || row.remedy.empty()) << tag(row.code);
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_EQ(row.meaning.back(), '.') << tag(row.code);
    EXPECT_EQ(row.remedy.back(), '.') << tag(row.code);
  }
}

TEST(Error, TagHasTwoDigitsAndTheExitStatusIsTheCode) {
  EXPECT_EQ(tag(ErrorCode::kUnspecified), "E00");
  EXPECT_EQ(tag(ErrorCode::kReadFromDisk), "E07");
  EXPECT_EQ(tag(ErrorCode::kSigning), "E60");
  EXPECT_EQ(exit_status(ErrorCode::kEnclaveProcessConnection), 39);
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Result<int> fails_inside() {
  return fail_errno(ErrorCode::kFileOperation, "opening \"x\"", ENOENT);
}
Result<int> fails_outside() {
  auto inner = fails_inside();
  if (!inner) return fail_within("reading the image", std::move(inner).error());
  return *inner;
}

TEST(Error, NamesTheOutermostStepFirstAndKeepsTheErrno) {
  const auto result = fails_outside();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().message(), "reading the image: opening \"x\": No such file or directory");
  EXPECT_EQ(result.error().system_errno(), ENOENT);
  EXPECT_EQ(result.error().code(), ErrorCode::kFileOperation);
}

TEST(Error, OfALimitOfOpenFilesSaysHowToRaiseIt) {
  EXPECT_PRED2(contains, fail_errno(ErrorCode::kFileOperation, "x", EMFILE).value().message(), "`ulimit -n 4096`");
  EXPECT_PRED2(contains, fail_errno(ErrorCode::kFileOperation, "x", ENFILE).value().message(), "/proc/sys/fs/file-max");
  EXPECT_EQ(fail_errno(ErrorCode::kFileOperation, "x", ENOENT).value().message(), "x: No such file or directory");
}

}  // namespace
}  // namespace nitro
