// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/directories.h"

#include "temp_folder.h"

namespace nitro {
namespace {

using testing::ScopedEnvironment;

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
