// SPDX-License-Identifier: Apache-2.0
#include "nitro/directories.h"

#include <sys/stat.h>

#include "temp_folder.h"

namespace nitro {
namespace {

using testing::ScopedEnvironment;
using testing::TempFolder;

TEST(Directories, TheConfiguredSocketsFolderWinsAndIsTheOnlyOne) {
  const TempFolder folder;
  const std::string wanted = folder / "sockets";
  const ScopedEnvironment environment("NITRO_CLI_SOCKETS_PATH", wanted.c_str());
  EXPECT_TRUE(sockets_folders().empty());
  auto made = sockets_folder_for_new_enclave();
  ASSERT_OK(made);
  EXPECT_EQ(*made, wanted);
  EXPECT_EQ(sockets_folders(), std::vector<std::string>{wanted});
}

TEST(Directories, TheUsersFolderIsSearchedToo) {
  const TempFolder folder;
  const ScopedEnvironment none("NITRO_CLI_SOCKETS_PATH", nullptr);
  const ScopedEnvironment runtime("XDG_RUNTIME_DIR", folder.path().c_str());
  std::filesystem::create_directory(folder / "nitro_enclaves");
  EXPECT_EQ(sockets_folders().back(), folder / "nitro_enclaves");
}

TEST(Directories, TheConfiguredLogsFolderWins) {
  const ScopedEnvironment environment("NITRO_CLI_LOGS_PATH", "/some/where");
  EXPECT_EQ(*logs_folder(), "/some/where");
}

TEST(Directories, BlobsComeFromTheEnvironmentOrTheDefault) {
  {
    const ScopedEnvironment environment("NITRO_CLI_BLOBS", "/my/blobs");
    EXPECT_EQ(blobs_folder(), "/my/blobs");
  }
  const ScopedEnvironment none("NITRO_CLI_BLOBS", nullptr);
  EXPECT_EQ(blobs_folder(), "/usr/share/nitro_enclaves/blobs");
}

}  // namespace
}  // namespace nitro
