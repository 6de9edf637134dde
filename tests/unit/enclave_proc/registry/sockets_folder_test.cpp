// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/registry/sockets_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "temp_folder.h"

namespace nitro::proc {
namespace {

using testing::ScopedEnvironment;
using testing::TempFolder;
using Kind = SocketsFolder::Kind;

constexpr uid_t kSomebody = 4711;

/// Gives the folder to `owner`; false when this user may not.
bool give(const TempFolder& folder, uid_t owner) {
  return ::chown(folder.path().c_str(), owner, static_cast<gid_t>(-1)) == 0;
}

TEST(SocketsFolder, IsTrustedByItsModeAsItWasFound) {
  struct Case {
    mode_t mode;
    bool system, own, configured;
  };
  for (const Case& test :
       {Case{0700, true, true, true}, Case{0755, true, true, true}, Case{0775, true, false, true},
        Case{01775, true, false, true}, Case{0777, false, false, false}, Case{01777, true, false, true}}) {
    const TempFolder folder;
    ASSERT_EQ(::chmod(folder.path().c_str(), test.mode), 0);
    EXPECT_EQ(SocketsFolder::open(folder.path(), Kind::kSystem).has_value(), test.system) << std::oct << test.mode;
    EXPECT_EQ(SocketsFolder::open(folder.path(), Kind::kPrivate).has_value(), test.own) << std::oct << test.mode;
    EXPECT_EQ(SocketsFolder::open(folder.path(), Kind::kConfigured).has_value(), test.configured)
        << std::oct << test.mode;
  }
}

TEST(SocketsFolder, OfAnotherUserIsTrustedByTheUsersWordOnly) {
  const TempFolder folder;
  if (!give(folder, kSomebody)) GTEST_SKIP() << "only root can give a folder to another user";
  for (const Kind kind : {Kind::kSystem, Kind::kPrivate}) {
    const auto opened = SocketsFolder::open(folder.path(), kind);
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code(), ErrorCode::kFilePermissions);
    EXPECT_NE(opened.error().message().find("belongs to user 4711"), std::string::npos) << opened.error().message();
  }
  EXPECT_OK(SocketsFolder::open(folder.path(), Kind::kConfigured));
}

TEST(SocketsFolder, ThatIsALinkIsTrustedByTheUsersWordOnly) {
  const TempFolder folder;
  std::filesystem::create_directory(folder / "real");
  std::filesystem::create_symlink(folder / "real", folder / "link");
  for (const Kind kind : {Kind::kSystem, Kind::kPrivate}) {
    const auto opened = SocketsFolder::open(folder / "link", kind);
    ASSERT_FALSE(opened);
    EXPECT_EQ(opened.error().code(), ErrorCode::kFilePermissions);
  }
  EXPECT_OK(SocketsFolder::open(folder / "link", Kind::kConfigured));
}

TEST(SocketsFolder, AdmitsThoseWhoMayWriteToIt) {
  const TempFolder folder;
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
  const auto alone = SocketsFolder::open(folder.path(), Kind::kConfigured).value();
  EXPECT_TRUE(alone.admits(0));
  EXPECT_TRUE(alone.admits(::geteuid()));
  EXPECT_FALSE(alone.admits(kSomebody));
  ASSERT_EQ(::chmod(folder.path().c_str(), 01775), 0);
  EXPECT_TRUE(SocketsFolder::open(folder.path(), Kind::kConfigured)->admits(kSomebody));
  if (!give(folder, kSomebody)) GTEST_SKIP() << "only root can give a folder to another user";
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
  EXPECT_TRUE(SocketsFolder::open(folder.path(), Kind::kConfigured)->admits(kSomebody));
}

TEST(SocketsFolder, GetsTheStickyBitWhereAGroupMayWrite) {
  for (const auto& [before, after] : {std::pair(0775U, 01775U), {0770U, 01770U}, {0755U, 0755U}, {01775U, 01775U}}) {
    const TempFolder folder;
    ASSERT_EQ(::chmod(folder.path().c_str(), before), 0);
    EXPECT_OK(SocketsFolder::open(folder.path(), Kind::kSystem)->protect());
    struct stat status {};
    ASSERT_EQ(::stat(folder.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777U, after);
  }
}

TEST(SocketsFolders, TheConfiguredOneWinsAndIsTheOnlyOne) {
  const TempFolder folder;
  const std::string wanted = folder / "sockets";
  const ScopedEnvironment environment("NITRO_CLI_SOCKETS_PATH", wanted.c_str());
  EXPECT_TRUE(find_sockets_folders()->trusted.empty());
  const auto made = sockets_folder_for_new_enclave();
  ASSERT_OK(made);
  EXPECT_EQ(made->path(), wanted);
  const auto found = find_sockets_folders();
  ASSERT_OK(found);
  ASSERT_EQ(found->trusted.size(), 1U);
  EXPECT_EQ(found->trusted.front().path(), wanted);
}

TEST(SocketsFolders, TheUsersOwnIsSearchedToo) {
  const TempFolder folder;
  const ScopedEnvironment none("NITRO_CLI_SOCKETS_PATH", nullptr);
  const ScopedEnvironment runtime("XDG_RUNTIME_DIR", folder.path().c_str());
  std::filesystem::create_directory(folder / "nitro_enclaves");
  EXPECT_EQ(find_sockets_folders()->trusted.back().path(), folder / "nitro_enclaves");
}

TEST(SocketsFolders, AForeignOneIsPassedOverAndNamed) {
  const TempFolder folder;
  const ScopedEnvironment none("NITRO_CLI_SOCKETS_PATH", nullptr);
  const ScopedEnvironment runtime("XDG_RUNTIME_DIR", folder.path().c_str());
  std::filesystem::create_directory(folder / "nitro_enclaves");
  if (::chown((folder / "nitro_enclaves").c_str(), kSomebody, static_cast<gid_t>(-1)) != 0)
    GTEST_SKIP() << "only root can give a folder to another user";
  const auto found = find_sockets_folders();
  ASSERT_OK(found);
  for (const SocketsFolder& trusted : found->trusted) EXPECT_EQ(trusted.path(), kSystemSocketsFolder);
  ASSERT_FALSE(found->passed_over.empty());
  EXPECT_NE(found->passed_over.back().message().find(folder / "nitro_enclaves"), std::string::npos);
}

TEST(SocketsFolders, TheConfiguredOneThatEverybodyMayChangeIsRefused) {
  const TempFolder folder;
  const ScopedEnvironment environment("NITRO_CLI_SOCKETS_PATH", folder.path().c_str());
  ASSERT_EQ(::chmod(folder.path().c_str(), 0777), 0);
  const auto made = sockets_folder_for_new_enclave();
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code(), ErrorCode::kFilePermissions);
  EXPECT_TRUE(find_sockets_folders()->trusted.empty());
  EXPECT_EQ(find_sockets_folders()->passed_over.size(), 1U);
}

}  // namespace
}  // namespace nitro::proc
