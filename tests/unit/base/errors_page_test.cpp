// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "nitro/error.h"
#include "temp_folder.h"

namespace nitro {
namespace {

std::string page() {
  std::string text =
      "# Errors\n\nThe code is printed as `[ Exx ]` on stderr; its number is the exit status of `nitro-cli`. This page "
      "is made from the table in "
      "`src/base/error_table.cpp`, as are the messages and `nitro-cli explain`.\n\nA `run-enclave` that fails after "
      "its enclave process has "
      "started prints the cause with its own code and ends with E39.\n\n| code | name | when | what to do "
      "|\n|---|---|---|---|\n";
  for (const ErrorDescription& row : error_table()) {
    text += fmt::format("| {} | {} | {} | {} |\n", tag(row.code), row.name, row.meaning, row.remedy);
  }
  return text;
}

TEST(ErrorsPage, SaysWhatTheTableSays) {
  const std::string path = NITRO_DOCS "/errors.md";
  if (std::getenv("NITRO_WRITE_DOCS") != nullptr) testing::write_file(path, page());
  EXPECT_EQ(testing::read_file(path), page()) << "run this test with NITRO_WRITE_DOCS=1 to write the page anew";
}

}  // namespace
}  // namespace nitro
