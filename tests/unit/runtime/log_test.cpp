// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/log.h"

#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <regex>
#include <sstream>
#include <utility>

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
}

TEST(Log, KeepsARecordOnOneLine) {
  const TempFolder folder;
  auto log = Log::open(folder.path());
  ASSERT_OK(log);
  SPDLOG_LOGGER_INFO(&**log, "one\n[nitro-cli:1][INFO] two\x1b[0m \u202e größe");
  const std::string text = read_file(folder / "nitro_enclaves.log");
  EXPECT_TRUE(text.ends_with("one\\x0a[nitro-cli:1][INFO] two\\x1b[0m \\u{202e} größe\n")) << text;
}

TEST(Log, HasTheRecordsThatRustLogAsksFor) {
  const std::pair<const char*, std::string> cases[] = {{nullptr, "iwe"},    {"", "iwe"},        {"info", "iwe"},
                                                       {"nonsense", "iwe"}, {"trace", "tdiwe"}, {"debug", "diwe"},
                                                       {"DEBUG", "diwe"},   {"warn", "we"},     {"error", "e"}};
  for (const auto& [value, expected] : cases) {
    const testing::ScopedEnvironment variable("RUST_LOG", value);
    const TempFolder folder;
    auto log = Log::open(folder.path());
    ASSERT_OK(log);
    SPDLOG_LOGGER_CALL(&**log, spdlog::level::trace, "t");
    SPDLOG_LOGGER_CALL(&**log, spdlog::level::debug, "d");
    SPDLOG_LOGGER_INFO(&**log, "i");
    SPDLOG_LOGGER_WARN(&**log, "w");
    SPDLOG_LOGGER_ERROR(&**log, "e");
    std::string written;
    std::istringstream lines(read_file(folder / "nitro_enclaves.log"));
    for (std::string line; std::getline(lines, line);) written += line.back();
    EXPECT_EQ(written, expected) << (value != nullptr ? value : "not set");
  }
}

TEST(Log, IsWritableForThoseWhoMayWriteToItsFolder) {
  for (const auto& [folder_mode, log_mode] : {std::pair(0700U, 0644U), {0775U, 0664U}, {01777U, 0666U}}) {
    const TempFolder folder;
    ASSERT_EQ(::chmod(folder.path().c_str(), folder_mode), 0);
    ASSERT_OK(Log::open(folder.path()));
    struct stat status {};
    ASSERT_EQ(::stat((folder / "nitro_enclaves.log").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777U, log_mode);
  }
}

TEST(Log, DoesNotWaitForAFifoOfItsName) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "nitro_enclaves.log").c_str(), 0600), 0);
  EXPECT_FALSE(Log::open(folder.path()));
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
