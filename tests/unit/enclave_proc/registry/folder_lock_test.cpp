// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/registry/folder_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "temp_folder.h"

namespace nitro::proc {
namespace {

using testing::TempFolder;

SocketsFolder opened(const TempFolder& folder) {
  return SocketsFolder::open(folder.path(), SocketsFolder::Kind::kConfigured).value();
}

TEST(FolderLock, IsHeldOnceUntilItIsGivenBack) {
  const TempFolder folder;
  auto first = hold_name(opened(folder), "a");
  ASSERT_OK(first);
  ASSERT_TRUE(*first);
  EXPECT_FALSE(*hold_name(opened(folder), "a"));
  EXPECT_TRUE(*hold_name(opened(folder), "b"));
  EXPECT_TRUE(*hold_cid(opened(folder), 16));
  first->give_back();
  EXPECT_TRUE(*hold_name(opened(folder), "a"));
}

TEST(FolderLock, LeavesNoFileBehindWhenTheLastIsGivenBack) {
  const TempFolder folder;
  auto name = hold_name(opened(folder), "a").value();
  auto cid = hold_cid(opened(folder), 16).value();
  EXPECT_EQ(folder.entries(), 1U);
  name.give_back();
  EXPECT_EQ(folder.entries(), 1U);
  EXPECT_FALSE(*hold_cid(opened(folder), 16));
  cid.give_back();
  EXPECT_EQ(folder.entries(), 0U);
}

TEST(FolderLock, StaysWithAForkedProcessAndEndsWithItHoweverThatEnds) {
  const TempFolder folder;
  auto held = hold_name(opened(folder), "a").value();
  const pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  held.leave_to_other_process();
  EXPECT_FALSE(*hold_name(opened(folder), "a"));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(*hold_name(opened(folder), "a"));
  EXPECT_EQ(folder.entries(), 0U);
}

TEST(FolderLock, WhatAKilledProcessLeavesIsRemoved) {
  const TempFolder folder;
  testing::write_file(folder / ".lock", "");
  remove_unused_lock_file(opened(folder));
  EXPECT_EQ(folder.entries(), 0U);
  const auto held = hold_name(opened(folder), "a").value();
  remove_unused_lock_file(opened(folder));
  EXPECT_EQ(folder.entries(), 1U);
  EXPECT_FALSE(*hold_name(opened(folder), "a"));
}

TEST(FolderLock, OfManyWhoWantTheSameAtOnceOneGetsIt) {
  const TempFolder folder;
  for (int round = 0; round < 50; ++round) {
    std::atomic<int> holders = 0;
    std::atomic<int> failures = 0;
    std::atomic<int> ready = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&, i] {
        const auto own = hold_cid(opened(folder), 100U + static_cast<unsigned>(i));
        const auto shared = hold_name(opened(folder), "a");
        if (!own || !*own || !shared) ++failures;
        if (shared && *shared) ++holders;
        // Nobody gives back before everybody has tried.
        for (++ready; ready < 4;) std::this_thread::yield();
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(holders, 1);
    EXPECT_EQ(failures, 0);
    EXPECT_EQ(folder.entries(), 0U);
  }
}

TEST(FolderLock, IsOpenToThoseWhoMayWriteToTheFolderOnly) {
  for (const auto& [folder_mode, file_mode] : {std::pair(0755U, 0600U), {01775U, 0660U}, {01777U, 0666U}}) {
    const TempFolder folder;
    ASSERT_EQ(::chmod(folder.path().c_str(), folder_mode), 0);
    const auto held = hold_name(opened(folder), "a").value();
    struct stat status {};
    ASSERT_EQ(::stat((folder / ".lock").c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777U, file_mode);
  }
}

TEST(FolderLock, BelongsToTheGroupOfTheFolder) {
  const TempFolder folder;
  if (::chown(folder.path().c_str(), static_cast<uid_t>(-1), 4242) != 0) GTEST_SKIP() << "only root can give a group";
  ASSERT_EQ(::chmod(folder.path().c_str(), 01775), 0);
  const auto held = hold_name(opened(folder), "a").value();
  struct stat status {};
  ASSERT_EQ(::stat((folder / ".lock").c_str(), &status), 0);
  EXPECT_EQ(status.st_gid, 4242U);
}

TEST(FolderLock, AFileThatIsNoLockFileIsAnErrorAndIsNotWaitedFor) {
  const auto make_fifo = [](const std::string& path) { return ::mkfifo(path.c_str(), 0600) == 0; };
  const auto make_link = [](const std::string& path) { return ::symlink("/dev/null", path.c_str()) == 0; };
  const auto make_folder = [](const std::string& path) { return ::mkdir(path.c_str(), 0700) == 0; };
  for (const std::function<bool(const std::string&)>& make :
       {std::function<bool(const std::string&)>(make_fifo), {make_link}, {make_folder}}) {
    const TempFolder folder;
    ASSERT_TRUE(make(folder / ".lock"));
    const auto held = hold_name(opened(folder), "a");
    ASSERT_FALSE(held);
    EXPECT_NE(held.error().message().find(".lock"), std::string::npos);
  }
}

TEST(FolderLock, TheTurnIsWaitedForSoLongAndNoLonger) {
  const TempFolder folder;
  auto first = take_publication_lock(opened(folder), std::chrono::milliseconds(0)).value();
  ASSERT_TRUE(first);
  EXPECT_FALSE(*take_publication_lock(opened(folder), std::chrono::milliseconds(10)));
  first.give_back();
  EXPECT_TRUE(*take_publication_lock(opened(folder), std::chrono::milliseconds(0)));
}

}  // namespace
}  // namespace nitro::proc
