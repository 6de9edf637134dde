// SPDX-License-Identifier: Apache-2.0
#include "src/base/output_file.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstddef>

#include "src/base/bytes.h"
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

TEST(OutputFile, ReplacesAFileOfAnotherUserAndLeavesItTheirs) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root gives files to other users";
  const TempFolder folder;
  write_file(folder / "out", "old");
  ASSERT_EQ(::chown((folder / "out").c_str(), 1234, 2345), 0);
  ASSERT_EQ(::chmod((folder / "out").c_str(), 0640), 0);
  auto file = OutputFile::create(folder / "out");
  ASSERT_OK(file);
  ASSERT_OK(file->commit());
  struct stat status {};
  ASSERT_EQ(::stat((folder / "out").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 1234U);
  EXPECT_EQ(status.st_gid, 2345U);
  EXPECT_EQ(status.st_mode & 07777U, 0640U);
}

TEST(OutputFile, GivesItsGroupNoMoreThanEverybodyWhenTheOldGroupCannotBeKept) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root makes files of two other users";
  const TempFolder folder;
  write_file(folder / "out", "old");
  ASSERT_EQ(::chmod(folder.path().c_str(), 0777), 0);
  ASSERT_EQ(::chown((folder / "out").c_str(), 1234, 2345), 0);
  ASSERT_EQ(::chmod((folder / "out").c_str(), 0676), 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    // A stranger who may write the file and its folder: the new file is theirs, and of their group.
    if (::setgid(3456) != 0 || ::setuid(3456) != 0) ::_exit(2);
    auto file = OutputFile::create(folder / "out");
    ::_exit(file && file->commit() ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  ASSERT_EQ(status, 0);
  struct stat found {};
  ASSERT_EQ(::stat((folder / "out").c_str(), &found), 0);
  EXPECT_EQ(found.st_gid, 3456U);
  EXPECT_EQ(found.st_mode & 07777U, 0666U);
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

TEST(OutputFile, MakesTheFileThatALinkLeadsTo) {
  const TempFolder folder;
  std::filesystem::create_directories(folder / "links");
  std::filesystem::create_directories(folder / "files");
  // Relative to where the link is, through a second one, and absolute.
  ASSERT_EQ(::symlink("../second", (folder / "links/first").c_str()), 0);
  ASSERT_EQ(::symlink((folder / "files/out").c_str(), (folder / "second").c_str()), 0);
  auto file = OutputFile::create(folder / "links/first");
  ASSERT_OK(file);
  ASSERT_OK(write_all(file->fd(), as_bytes("new")));
  ASSERT_OK(file->commit());
  EXPECT_EQ(read_file(folder / "files/out"), "new");
  EXPECT_FALSE(std::filesystem::is_symlink(folder / "files/out"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "links/first"));
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "second"));
}

TEST(OutputFile, RefusesLinksThatLeadNowhereOrInACircle) {
  const TempFolder folder;
  ASSERT_EQ(::symlink("b", (folder / "a").c_str()), 0);
  ASSERT_EQ(::symlink("a", (folder / "b").c_str()), 0);
  ASSERT_EQ(::symlink("missing/out", (folder / "c").c_str()), 0);
  const auto circle = OutputFile::create(folder / "a");
  ASSERT_FALSE(circle);
  EXPECT_EQ(circle.error().system_errno(), ELOOP);
  const auto nowhere = OutputFile::create(folder / "c");
  ASSERT_FALSE(nowhere);
  EXPECT_NE(nowhere.error().message().find("missing\""), std::string::npos) << nowhere.error().message();
  EXPECT_EQ(folder.entries(), 3U);
}

TEST(OutputFile, RefusesAFolderThatIsMissingAndAPathThatIsNoFile) {
  const TempFolder folder;
  const auto missing = OutputFile::create(folder / "no/such/out");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ErrorCode::kFileOperation);
  EXPECT_NE(missing.error().message().find("no/such"), std::string::npos);
  EXPECT_FALSE(OutputFile::create(folder.path()));
  EXPECT_FALSE(OutputFile::create(""));
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_FALSE(OutputFile::create(folder / "fifo"));
}

TEST(OutputFile, WritesToACharacterDeviceAndLeavesItOne) {
  for (const bool committed : {true, false}) {
    auto file = OutputFile::create("/dev/null");
    ASSERT_OK(file);
    // Whoever writes goes back to the header, and reads what he wrote to measure it.
    ASSERT_OK(pwrite_all(file->fd(), as_bytes("end"), 5000));
    ASSERT_OK(pwrite_all(file->fd(), as_bytes("begin"), 0));
    EXPECT_EQ(*file_size(file->fd()), 5003U);
    if (committed) ASSERT_OK(file->commit());
  }
  struct stat status {};
  ASSERT_EQ(::lstat("/dev/null", &status), 0);
  EXPECT_TRUE(S_ISCHR(status.st_mode));
}

TEST(OutputFile, GivesADeviceEveryByteInOrder) {
  Fd terminal(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
  if (!terminal || ::grantpt(terminal.get()) != 0 || ::unlockpt(terminal.get()) != 0)
    GTEST_SKIP() << "no terminals here";
  const std::string name = ::ptsname(terminal.get());
  const Fd kept_open(::open(name.c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC));
  ASSERT_TRUE(kept_open);
  auto file = OutputFile::create(name);
  ASSERT_OK(file);
  ASSERT_OK(pwrite_all(file->fd(), as_bytes("def"), 3));
  ASSERT_OK(pwrite_all(file->fd(), as_bytes("abc"), 0));
  ASSERT_OK(file->commit());
  std::array<std::byte, 6> seen{};
  ASSERT_OK(read_exact(terminal.get(), seen));
  EXPECT_EQ(as_text(seen), "abcdef");
}

TEST(OutputFile, SaysThatADeviceIsFull) {
  auto file = OutputFile::create("/dev/full");
  ASSERT_OK(file);
  ASSERT_OK(write_all(file->fd(), as_bytes("x")));
  const auto committed = file->commit();
  ASSERT_FALSE(committed);
  EXPECT_EQ(committed.error().code(), ErrorCode::kFileOperation);
  EXPECT_EQ(committed.error().system_errno(), ENOSPC);
  EXPECT_NE(committed.error().message().find("/dev/full"), std::string::npos) << committed.error().message();
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
