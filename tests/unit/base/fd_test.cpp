// SPDX-License-Identifier: Apache-2.0
#include "nitro/fd.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <thread>

#include "src/base/bytes.h"
#include "temp_folder.h"

namespace nitro {
namespace {

using testing::TempFolder;
using testing::write_file;

TEST(OpenRegularFile, OpensAFileAndTheTargetOfALink) {
  const TempFolder folder;
  write_file(folder / "file", "text");
  std::filesystem::create_symlink("file", folder / "link");
  EXPECT_OK(open_regular_file(folder / "file"));
  EXPECT_OK(open_regular_file(folder / "link"));
}

TEST(OpenRegularFile, SaysAtOnceWhatElseItIs) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  ASSERT_EQ(::mknod((folder / "socket").c_str(), S_IFSOCK | 0600, 0), 0);
  const std::pair<std::string, const char*> table[] = {{folder.path(), "is a folder"},
                                                       {folder / "fifo", "is a pipe"},
                                                       {folder / "socket", "is a socket"},
                                                       {"/dev/zero", "is a device"},
                                                       {folder / "missing", "No such file or directory"}};
  for (const auto& [path, part] : table) {
    const auto file = open_regular_file(path);
    ASSERT_FALSE(file) << path;
    EXPECT_EQ(file.error().code(), ErrorCode::kFileOperation);
    EXPECT_NE(file.error().message().find(path), std::string::npos) << file.error().message();
    EXPECT_NE(file.error().message().find(part), std::string::npos) << file.error().message();
  }
}

TEST(ReadTextFile, ReadsAPipeToItsEnd) {
  // As "<(…)" of a shell hands it over: by the name of an open descriptor.
  auto pipe = make_pipe();
  ASSERT_OK(pipe);
  const std::string large(200000, 'x');
  std::thread writer([&large, end = std::move(pipe->second)] { EXPECT_OK(write_all(end.get(), as_bytes(large))); });
  const auto text = read_text_file("/proc/self/fd/" + std::to_string(pipe->first.get()));
  writer.join();
  ASSERT_OK(text);
  EXPECT_TRUE(*text == large);
}

TEST(ReadTextFile, WaitsForTheWriterOfAFifo) {
  const TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  std::thread writer([&folder] {
    const auto end = open_file(folder / "fifo", O_WRONLY);
    ASSERT_OK(end);
    EXPECT_OK(write_all(end->get(), as_bytes("text")));
  });
  EXPECT_EQ(read_text_file(folder / "fifo").value(), "text");
  writer.join();
}

TEST(ReadTextFile, RefusesAFolderAndWhatNeverEnds) {
  const TempFolder folder;
  EXPECT_FALSE(read_text_file(folder.path()));
  const auto endless = read_text_file("/dev/zero", 100000);
  ASSERT_FALSE(endless);
  EXPECT_NE(endless.error().message().find("larger than 100000 bytes"), std::string::npos);
}

}  // namespace
}  // namespace nitro
