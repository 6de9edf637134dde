// SPDX-License-Identifier: Apache-2.0
#include "eif/image/context.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <map>

#include "eif/image/tar.h"
#include "ordinary_user.h"
#include "src/base/bytes.h"
#include "src/runtime/unix_socket.h"
#include "temp_folder.h"
#include "tests/unit/eif/image/layer_maker.h"

namespace nitro::image {
namespace {

using nitro::testing::TempFolder;
using nitro::testing::write_file;

Result<std::string> packed(const std::string& folder) {
  NITRO_TRY(auto context, BuildContext::open(folder));
  std::string archive;
  std::string buffer(1000, '\0');
  for (;;) {
    NITRO_TRY(const auto size, context.read(std::as_writable_bytes(std::span(buffer))));
    if (size == 0) return archive;
    archive.append(buffer, 0, size);
  }
}

// Name → what it is: the content of a file, "-> target", "folder", "fifo".
std::map<std::string, std::string> entries(const std::string& folder) {
  std::map<std::string, std::string> result;
  const auto archive = packed(folder);
  EXPECT_OK(archive);
  if (!archive) return result;
  const auto extent = extent_of(*archive);
  ExtentStream stream(extent);
  TarReader reader(stream, plenty());
  TarEntry entry;
  for (;;) {
    const auto more = reader.next(entry);
    EXPECT_OK(more);
    if (!more || !*more) return result;
    EXPECT_EQ(entry.uid, 0U) << entry.name;
    EXPECT_EQ(entry.gid, 0U) << entry.name;
    auto name = std::string(entry.name);
    if (name.ends_with('/')) name.pop_back();
    std::string what = "?";
    switch (entry.type) {
      case FileType::kRegular:
        what = *extent.part(entry.data_offset_bytes, entry.size_bytes).text(1 << 20);
        break;
      case FileType::kDirectory:
        what = "folder";
        break;
      case FileType::kSymlink:
        what = "-> " + std::string(entry.link_target);
        break;
      case FileType::kFifo:
        what = "fifo";
        break;
      default:
        break;
    }
    EXPECT_TRUE(result.emplace(name, what).second) << name << " twice";
  }
}

using Entries = std::map<std::string, std::string>;

class BuildContextTest : public ::testing::Test {
 protected:
  BuildContextTest() { write_file(folder_ / "Dockerfile", "FROM scratch"); }
  void make_folder(const std::string& name) { std::filesystem::create_directories(folder_ / name); }
  TempFolder folder_;
};

TEST_F(BuildContextTest, HoldsEverythingWithoutARuleFile) {
  make_folder("a/b");
  write_file(folder_ / "a/b/c", "text");
  write_file(folder_ / "a/empty", "");
  write_file(folder_ / "name with blank and \xc3\xbc\xff", "x");
  ASSERT_EQ(::mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(entries(folder_.path()), (Entries{{"Dockerfile", "FROM scratch"},
                                              {"a", "folder"},
                                              {"a/b", "folder"},
                                              {"a/b/c", "text"},
                                              {"a/empty", ""},
                                              {"fifo", "fifo"},
                                              {"name with blank and \xc3\xbc\xff", "x"}}));
  EXPECT_EQ(entries(folder_.path() + "//").size(), 7U);
}

TEST_F(BuildContextTest, LeavesOutWhatIsIgnoredButNotWhatTheBuilderNeeds) {
  make_folder("a/b");
  make_folder("out/deep");
  for (const char* name : {"a/x.o", "a/b/y.o", "a/b/z.c", "out/1", "out/keep", "out/deep/2"})
    write_file(folder_ / name, "x");
  write_file(folder_ / ".dockerignore", "**/*.o\nout\n!out/keep\nDockerfile\n.dockerignore\n");
  const auto all = entries(folder_.path());
  std::vector<std::string> names;
  for (const auto& [name, what] : all) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{".dockerignore", "Dockerfile", "a", "a/b", "a/b/z.c", "out/keep"}));
}

TEST_F(BuildContextTest, FollowsSymbolicLinksAndKeepsThoseThatLeadNowhere) {
  make_folder("a");
  write_file(folder_ / "a/file", "text");
  const TempFolder outside;
  write_file(outside / "file", "outside");
  std::filesystem::create_symlink("a/file", folder_ / "to-file");
  std::filesystem::create_symlink("a", folder_ / "to-folder");
  std::filesystem::create_symlink(outside.path(), folder_ / "to-outside");
  std::filesystem::create_symlink("nothing", folder_ / "to-nothing");
  std::filesystem::create_symlink("..", folder_ / "a/loop");
  std::filesystem::create_symlink("self", folder_ / "self");
  std::filesystem::create_hard_link(folder_ / "a/file", folder_ / "second-name");
  EXPECT_EQ(entries(folder_.path()), (Entries{{"Dockerfile", "FROM scratch"},
                                              {"a", "folder"},
                                              {"a/file", "text"},
                                              {"a/loop", "-> .."},
                                              {"second-name", "text"},
                                              {"self", "-> self"},
                                              {"to-file", "text"},
                                              {"to-folder", "folder"},
                                              {"to-folder/file", "text"},
                                              {"to-folder/loop", "-> .."},
                                              {"to-nothing", "-> nothing"},
                                              {"to-outside", "folder"},
                                              {"to-outside/file", "outside"}}));
}

TEST_F(BuildContextTest, LeavesOutSockets) {
  const auto listener = listen_unix(folder_ / "socket", 0600);
  ASSERT_OK(listener);
  EXPECT_EQ(entries(folder_.path()), (Entries{{"Dockerfile", "FROM scratch"}}));
}

TEST_F(BuildContextTest, PacksLongNamesAndDeepFolders) {
  std::string deep;
  for (int i = 0; i < 30; ++i) deep += std::string(100, 'd') + "/";
  make_folder(deep);
  write_file(folder_ / (deep + std::string(255, 'f')), "text");
  const auto all = entries(folder_.path());
  EXPECT_EQ(all.size(), 32U);
  EXPECT_EQ(all.at(deep + std::string(255, 'f')), "text");
}

TEST_F(BuildContextTest, NamesTheFileThatGetsShorterWhileItIsRead) {
  const auto file = folder_ / "big";
  write_file(file, std::string(3 << 20, 'x'));
  auto context = BuildContext::open(folder_.path());
  ASSERT_OK(context);
  std::string buffer(4096, '\0');
  std::size_t total = 0;
  while (total < 100'000) {
    const auto size = context->read(std::as_writable_bytes(std::span(buffer)));
    ASSERT_OK(size);
    total += *size;
  }
  ASSERT_EQ(::truncate(file.c_str(), 200'000), 0);
  for (;;) {
    const auto size = context->read(std::as_writable_bytes(std::span(buffer)));
    if (!size) {
      EXPECT_EQ(size.error().code(), ErrorCode::kDockerImageBuild);
      EXPECT_PRED2(contains, size.error().message(), "big\" became shorter");
      return;
    }
    ASSERT_NE(*size, 0U) << "the end was reached";
  }
}

TEST_F(BuildContextTest, SendsAFileThatGrowsAsItWas) {
  const auto file = folder_ / "log";
  write_file(file, std::string(1 << 20, 'x'));
  auto context = BuildContext::open(folder_.path());
  ASSERT_OK(context);
  std::string archive;
  std::string buffer(4096, '\0');
  for (bool grown = false;;) {
    const auto size = context->read(std::as_writable_bytes(std::span(buffer)));
    ASSERT_OK(size);
    if (*size == 0) break;
    archive.append(buffer, 0, *size);
    if (!grown && archive.size() > 100'000) {
      std::filesystem::resize_file(file, 2 << 20);
      grown = true;
    }
  }
  const auto extent = extent_of(archive);
  ExtentStream stream(extent);
  TarReader reader(stream, plenty());
  TarEntry entry;
  while (*reader.next(entry)) {
    if (entry.name == "log") {
      EXPECT_EQ(entry.size_bytes, 1U << 20);
    }
  }
}

TEST_F(BuildContextTest, NamesWhatCannotBeRead) {
  EXPECT_FALSE(packed("/nonexistent"));
  write_file(folder_ / ".dockerignore", "[\n");
  const auto bad_rule = packed(folder_.path());
  ASSERT_FALSE(bad_rule);
  EXPECT_PRED2(contains, bad_rule.error().message(), ".dockerignore\": line 1");
  std::filesystem::remove(folder_ / ".dockerignore");
  write_file(folder_ / "secret", "x");
  std::filesystem::permissions(folder_.path(), std::filesystem::perms::all);
  std::filesystem::permissions(folder_ / "secret", std::filesystem::perms::none);
  const testing::OrdinaryUser nobody;
  const auto unreadable = packed(folder_.path());
  ASSERT_FALSE(unreadable);
  EXPECT_EQ(unreadable.error().code(), ErrorCode::kDockerImageBuild);
  EXPECT_PRED2(contains, unreadable.error().message(), "secret");
}

}  // namespace
}  // namespace nitro::image
