// SPDX-License-Identifier: Apache-2.0
#include "nitro/output_file.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "nitro/bytes.h"
#include "temp_folder.h"

namespace nitro {
namespace {

using testing::read_file;
using testing::TempFolder;
using testing::write_file;

TEST(OutputFile, AppearsOnlyWhenCommitted) {
  const TempFolder folder;
  auto file = OutputFile::create(folder / "out");
  ASSERT_OK(file);
  ASSERT_OK(write_all(file->fd(), as_bytes("content")));
  EXPECT_EQ(folder.entries(), 0U);
  ASSERT_OK(file->commit());
  EXPECT_EQ(read_file(folder / "out"), "content");
  EXPECT_EQ(folder.entries(), 1U);
}

TEST(OutputFile, LeavesNothingWhenAbandoned) {
  const TempFolder folder;
  write_file(folder / "out", "old");
  {
    auto file = OutputFile::create(folder / "out");
    ASSERT_OK(file);
    ASSERT_OK(write_all(file->fd(), as_bytes("half")));
  }
  EXPECT_EQ(read_file(folder / "out"), "old");
  EXPECT_EQ(folder.entries(), 1U);
}

TEST(OutputFile, ReplacesAnOlderFileAndKeepsItsPermissions) {
  const TempFolder folder;
  write_file(folder / "out", "old");
  ::chmod((folder / "out").c_str(), 0600);
  auto file = OutputFile::create(folder / "out");
  ASSERT_OK(file);
  ASSERT_OK(write_all(file->fd(), as_bytes("new")));
  ASSERT_OK(file->commit());
  EXPECT_EQ(read_file(folder / "out"), "new");
  struct stat status {};
  ASSERT_EQ(::stat((folder / "out").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
  EXPECT_EQ(folder.entries(), 1U);
}

TEST(OutputFile, ReplacesTheTargetOfASymbolicLink) {
  const TempFolder folder;
  write_file(folder / "target", "old");
  ASSERT_EQ(::symlink("target", (folder / "link").c_str()), 0);
  auto file = OutputFile::create(folder / "link");
  ASSERT_OK(file);
  ASSERT_OK(write_all(file->fd(), as_bytes("new")));
  ASSERT_OK(file->commit());
  EXPECT_EQ(read_file(folder / "target"), "new");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
}

TEST(OutputFile, RefusesAFolderThatIsMissingAndAPathThatIsNoFile) {
  const TempFolder folder;
  const auto missing = OutputFile::create(folder / "no/such/out");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ErrorCode::kFileOperation);
  EXPECT_NE(missing.error().message().find("no/such"), std::string::npos);
  EXPECT_FALSE(OutputFile::create(folder.path()));
  EXPECT_FALSE(OutputFile::create("/dev/null"));
}

TEST(OutputFile, LeavesNothingWhicheverSignalEndsTheProcess) {
  for (const int signal : {SIGINT, SIGTERM, SIGKILL, SIGHUP}) {
    const TempFolder folder;
    write_file(folder / "out", "old");
    auto ready = make_pipe();
    ASSERT_OK(ready);
    const pid_t pid = ::fork();
    if (pid == 0) {
      auto file = OutputFile::create(folder / "out");
      auto ignored = write_all(file->fd(), as_bytes("half"));
      ignored = write_all(ready->second.get(), as_bytes("x"));
      ::pause();
      ::_exit(0);
    }
    std::byte x{};
    ASSERT_OK(read_exact(ready->first.get(), std::span(&x, 1)));
    ::kill(pid, signal);
    int status = 0;
    ::waitpid(pid, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal);
    EXPECT_EQ(read_file(folder / "out"), "old");
    EXPECT_EQ(folder.entries(), 1U);
  }
}

TEST(ScratchFile, HasNoNameAndHoldsData) {
  const TempFolder folder;
  const testing::ScopedEnvironment environment("TMPDIR", folder.path().c_str());
  auto fd = make_scratch_file();
  ASSERT_OK(fd);
  EXPECT_EQ(folder.entries(), 0U);
  ASSERT_OK(pwrite_all(fd->get(), as_bytes("abc"), 4096));
  EXPECT_EQ(*file_size(fd->get()), 4099U);
}

}  // namespace
}  // namespace nitro
