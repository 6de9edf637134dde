// SPDX-License-Identifier: Apache-2.0
#include "eif/image/cpio.h"

#include <gtest/gtest.h>

#include "eif/image/ramdisk.h"
#include "temp_folder.h"
#include "tests/unit/eif/image/layer_maker.h"

namespace nitro::image {
namespace {

TEST(CpioWriter, WritesHeadersContentsAndPadding) {
  const auto archive = collect([](const ByteSink& sink) -> Result<void> {
    CpioWriter writer(sink);
    NITRO_CHECK(writer.begin({.name = "ab", .mode = 0644, .uid = 1, .gid = 2, .mtime = 255, .size_bytes = 5}));
    NITRO_CHECK(writer.write(as_bytes("hello")));
    return writer.finish();
  });
  ASSERT_OK(archive);
  EXPECT_EQ(archive->substr(0, 124),
            std::string("070701000002d1000081a4000000010000000200000001000000ff0000000500000003000000010000000000000000"
                        "0000000300000000ab\0\0\0\0hello\0\0\0",
                        124));
  EXPECT_EQ(archive->size(), 512U);
  EXPECT_EQ(archive->find("TRAILER!!!"), 124 + 110U);
}

std::string time_field(std::int64_t mtime) {
  const auto archive = collect([mtime](const ByteSink& sink) -> Result<void> {
    CpioWriter writer(sink);
    NITRO_CHECK(writer.begin({.name = "f", .mtime = mtime}));
    return writer.finish();
  });
  return archive->substr(46, 8);
}

TEST(CpioWriter, WritesTimesAsTheReferenceUntilTheFormatEnds) {
  EXPECT_EQ(time_field(1700000000), "6553f100");
  EXPECT_EQ(time_field(4000000000), "ee6b2800");
  EXPECT_EQ(time_field(-5), "-0000005");
  EXPECT_EQ(time_field(std::int64_t{1} << 40), "ffffffff");
}

TEST(CpioWriter, RefusesFilesOfFourGigabytes) {
  const auto archive = collect([](const ByteSink& sink) -> Result<void> {
    CpioWriter writer(sink);
    return writer.begin({.name = "f", .size_bytes = std::uint64_t{1} << 32});
  });
  ASSERT_FALSE(archive);
  EXPECT_EQ(archive.error().code(), ErrorCode::kEifBuilding);
  EXPECT_PRED2(contains, archive.error().message(), "less than 4 GiB");
}

TEST(CpioWriter, TakesTheLargestFileThatTheFormatHolds) {
  std::string header;
  const ByteSink sink = [&header](std::span<const std::byte> bytes) -> Result<void> {
    header += as_text(bytes);
    return {};
  };
  const CpioWriter::Gap gap = [](std::uint64_t) -> Result<void> { return {}; };
  CpioWriter writer(sink, gap);
  ASSERT_OK(writer.begin({.name = "f", .size_bytes = 0xffffffff}));
  ASSERT_OK(writer.zeros(0xffffffff));
  ASSERT_OK(writer.finish());
  EXPECT_EQ(header.substr(54, 8), "ffffffff");
}

TEST(CpioWriter, StopsWhenItsSinkFails) {
  int calls = 0;
  const ByteSink full = [&calls](std::span<const std::byte>) -> Result<void> {
    ++calls;
    return fail(ErrorCode::kFileOperation, "disk full");
  };
  CpioWriter writer(full);
  const std::string content(3 << 20, 'x');
  ASSERT_OK(writer.begin({.name = "f", .size_bytes = content.size()}));
  const auto written = writer.write(as_bytes(content));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().message(), "disk full");
  EXPECT_EQ(calls, 1);
}

std::vector<std::string> names_in(const std::string& archive) {
  std::vector<std::string> names;
  for (std::size_t at = 0; at + 110 <= archive.size() && archive.compare(at, 6, "070701") == 0;) {
    const auto field = [&](std::size_t i) { return std::stoul(archive.substr(at + 6 + 8 * i, 8), nullptr, 16); };
    names.push_back(archive.substr(at + 110, field(11) - 1));
    const auto data = (at + 110 + field(11) + 3) / 4 * 4;
    at = (data + field(6) + 3) / 4 * 4;
  }
  return names;
}

Result<std::string> ramdisk_with(const std::vector<Member>& members) {
  const auto layer = extent_of(tar(members));
  Tree tree(plenty());
  tree.begin_layer();
  ExtentStream stream(layer);
  TarReader reader(stream, plenty());
  TarEntry entry;
  for (;;) {
    NITRO_TRY(const bool more, reader.next(entry));
    if (!more) break;
    NITRO_CHECK(tree.apply(entry));
  }
  NITRO_CHECK(add_container_files(tree, {}));
  return collect([&](const ByteSink& sink) {
    CpioWriter writer(sink);
    return write_customer_ramdisk(tree, content_of({layer}), {}, {}, writer);
  });
}

TEST(CustomerRamdisk, LeavesOutWhatBelongsToTheEngine) {
  const auto names =
      names_in(*ramdisk_with({{.name = "Dockerfile"}, {.name = "a/Dockerfile"}, {.name = "etc/hostname"}}));
  EXPECT_EQ(std::count(names.begin(), names.end(), "rootfs/Dockerfile"), 0);
  EXPECT_EQ(std::count(names.begin(), names.end(), "rootfs/a/Dockerfile"), 1);
  EXPECT_EQ(std::count(names.begin(), names.end(), "rootfs/etc/hostname"), 0);
  EXPECT_EQ(std::count(names.begin(), names.end(), "rootfs/.dockerenv"), 0);
  EXPECT_EQ(std::count(names.begin(), names.end(), "rootfs/dev/console"), 0);
}

TEST(CustomerRamdisk, AppendsTheFilesThatTheImageHasFoldersFor) {
  const auto names = names_in(*ramdisk_with({folder("etc/hosts"), folder("etc/resolv.conf"), folder("etc/mtab")}));
  const auto last_of_image = std::find(names.begin(), names.end(), "rootfs/sys/");
  ASSERT_NE(last_of_image, names.end());
  EXPECT_EQ(std::vector<std::string>(last_of_image + 1, names.end()),
            (Lines{"rootfs/etc/hosts", "rootfs/etc/mtab", "rootfs/etc/resolv.conf", "rootfs", "rootfs/dev",
                   "rootfs/run", "rootfs/sys", "rootfs/var", "rootfs/proc", "rootfs/tmp", "cmd", "env", "TRAILER!!!"}));
}

TEST(CustomerRamdisk, TurnsHardLinksIntoRelativeSymbolicLinks) {
  const auto ramdisk = *ramdisk_with({{.name = "a/b/f", .content = "x"},
                                      hard_link("a/b/g", "a/b/f"),
                                      hard_link("a/c/d/h", "a/b/f"),
                                      hard_link("z", "a/b/f")});
  EXPECT_NE(ramdisk.find(std::string("rootfs/a/b/g\0", 13)), std::string::npos);
  EXPECT_NE(ramdisk.find("../../b/f"), std::string::npos);
  EXPECT_NE(ramdisk.find(std::string("\0a/b/f", 6)), std::string::npos);
}

}  // namespace
}  // namespace nitro::image
