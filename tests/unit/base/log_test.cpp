// SPDX-License-Identifier: Apache-2.0
#include "nitro/log.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <regex>

#include "temp_folder.h"

namespace nitro {
namespace {

using testing::read_file;
using testing::TempFolder;

TEST(Log, WritesALinePerRecordWithWhoWhenAndWhere) {
  const TempFolder folder;
  auto log = Log::open(folder.path());
  ASSERT_OK(log);
  log->set_id("enc-1234:99");
  SPDLOG_LOGGER_INFO(&**log, "started {}", 7);
  SPDLOG_LOGGER_WARN(&**log, "careful");
  SPDLOG_LOGGER_DEBUG(&**log, "not at this level");
  const std::string text = read_file(folder / "nitro_enclaves.log");
  const std::regex lines(
      R"(\[enc-1234:99\]\[INFO\]\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\]\[log_test\.cpp:\d+\] started 7\n)"
      R"(\[enc-1234:99\]\[WARN\]\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\]\[log_test\.cpp:\d+\] careful\n)");
  EXPECT_TRUE(std::regex_match(text, lines)) << text;
  struct stat status {};
  ASSERT_EQ(::stat((folder / "nitro_enclaves.log").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0766U);
}

TEST(Log, GoesOnInANewFileAfterRotation) {
  const TempFolder folder;
  auto log = Log::open(folder.path());
  ASSERT_OK(log);
  SPDLOG_LOGGER_INFO(&**log, "one");
  std::filesystem::rename(folder / "nitro_enclaves.log", folder / "old");
  SPDLOG_LOGGER_INFO(&**log, "two");
  EXPECT_NE(read_file(folder / "old").find("one"), std::string::npos);
  EXPECT_NE(read_file(folder / "nitro_enclaves.log").find("two"), std::string::npos);
}

TEST(Log, AFolderThatIsMissingIsAnError) {
  const auto log = Log::open("/no/such/folder");
  ASSERT_FALSE(log);
  EXPECT_EQ(log.error().code(), ErrorCode::kFileOperation);
}

}  // namespace
}  // namespace nitro
