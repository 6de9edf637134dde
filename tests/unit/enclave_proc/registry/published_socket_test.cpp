// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/registry/published_socket.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "enclave_proc/registry/folder_lock.h"
#include "src/runtime/unix_socket.h"
#include "temp_folder.h"

namespace nitro::proc {
namespace {

using testing::TempFolder;

SocketsFolder opened(const TempFolder& folder) {
  return SocketsFolder::open(folder.path(), SocketsFolder::Kind::kConfigured).value();
}

bool exists(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

/// A socket behind which nobody listens: what a killed process leaves.
void leave_stale(const std::string& path) {
  auto listener = listen_unix(path, 0600).value();
  [[maybe_unused]] const std::string kept = listener.path.release();
}

TEST(PublishedSocket, ListensUnderItsNameWithItsModeAndTakesTheNameAway) {
  const TempFolder folder;
  {
    const auto socket = PublishedSocket::publish(opened(folder), "1.sock", 0766);
    ASSERT_OK(socket);
    EXPECT_OK(connect_to_published(opened(folder), "1.sock"));
    struct stat status {};
    ASSERT_EQ(::stat((folder / "1.sock").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0766U);
    EXPECT_EQ(folder.entries(), 1U);
  }
  EXPECT_EQ(folder.entries(), 0U);
}

TEST(PublishedSocket, TakesNoNameAwayThatAnotherFileHas) {
  const TempFolder folder;
  auto socket = PublishedSocket::publish(opened(folder), "1.sock", 0600).value();
  std::filesystem::rename(folder / "1.sock", folder / "moved");
  testing::write_file(folder / "1.sock", "another");
  socket.withdraw();
  EXPECT_TRUE(exists(folder / "1.sock"));
}

TEST(PublishedSocket, ReplacesWhatAKilledProcessLeftAndNothingElse) {
  const TempFolder folder;
  leave_stale(folder / "1.sock");
  leave_stale(folder / "1.new");
  auto socket = PublishedSocket::publish(opened(folder), "1.sock", 0600);
  ASSERT_OK(socket);
  const auto second = PublishedSocket::publish(opened(folder), "1.sock", 0600);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().system_errno(), EEXIST);
  EXPECT_OK(connect_to_published(opened(folder), "1.sock"));
  EXPECT_EQ(folder.entries(), 1U);
}

TEST(PublishedSocket, ThatDoesNotListenYetIsNotRemovedWhileItIsPublished) {
  const TempFolder folder;
  leave_stale(folder / "1.new");
  leave_stale(folder / "2.sock");
  {
    // Who publishes has the turn from before the socket is bound until it has its name.
    const auto lock = take_publication_lock(opened(folder), std::chrono::milliseconds(0)).value();
    for (const char* name : {"1.new", "2.sock"}) {
      remove_if_stale(opened(folder), name);
      EXPECT_TRUE(exists(folder / name)) << name;
    }
  }
  for (const char* name : {"1.new", "2.sock"}) {
    remove_if_stale(opened(folder), name);
    EXPECT_FALSE(exists(folder / name)) << name;
  }
  EXPECT_EQ(folder.entries(), 0U);
}

TEST(PublishedSocket, ThatListensAgainWhenItIsLookedAtAgainIsNotRemoved) {
  const TempFolder folder;
  leave_stale(folder / "1.sock");
  // Between the refusal that somebody has seen and the removal, another process has taken the name.
  std::filesystem::remove(folder / "1.sock");
  const auto socket = PublishedSocket::publish(opened(folder), "1.sock", 0600).value();
  remove_if_stale(opened(folder), "1.sock");
  EXPECT_OK(connect_to_published(opened(folder), "1.sock"));
}

TEST(PublishedSocket, AFileThatIsNoSocketIsNotRemoved) {
  const TempFolder folder;
  testing::write_file(folder / "1.sock", "notes of the user");
  remove_if_stale(opened(folder), "1.sock");
  EXPECT_TRUE(exists(folder / "1.sock"));
}

TEST(PublishedSocket, OfAUserWhoHasNoEnclavesInTheFolderIsNotConnectedTo) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can be another user";
  const TempFolder folder;
  ASSERT_EQ(::chmod(folder.path().c_str(), 0777), 0);
  const auto ready = make_pipe().value();
  const pid_t child = ::fork();
  if (child == 0) {
    const bool other = ::setgid(4711) == 0 && ::setuid(4711) == 0;
    const auto listener = listen_unix(folder / "1.sock", 0777);
    if (other && listener && ::write(ready.second.get(), "x", 1) == 1) ::pause();
    ::_exit(1);
  }
  std::byte byte{};
  ASSERT_OK(read_exact(ready.first.get(), std::span(&byte, 1)));
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
  const auto refused = connect_to_published(opened(folder), "1.sock");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().system_errno(), EPERM);
  ASSERT_EQ(::chmod(folder.path().c_str(), 01777), 0);
  EXPECT_OK(connect_to_published(opened(folder), "1.sock"));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
}

}  // namespace
}  // namespace nitro::proc
