// SPDX-License-Identifier: Apache-2.0
#include "eif/image/tar.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>

#include "temp_folder.h"
#include "tests/unit/image/layer_maker.h"

namespace nitro::image {
namespace {

Result<std::vector<TarEntry>> entries_of(const std::string& archive) {
  ExtentStream stream(extent_of(archive));
  TarReader reader(stream);
  std::vector<TarEntry> entries;
  for (;;) {
    TarEntry entry;
    NITRO_TRY(const bool more, reader.next(entry));
    if (!more) return entries;
    entries.push_back(std::move(entry));
  }
}

std::string refusal(const std::string& archive) {
  const auto entries = entries_of(archive);
  return entries ? "" : entries.error().message();
}

TEST(TarReader, TellsWhereContentsLie) {
  const auto archive =
      tar({{.name = "a", .content = "content"}, folder("d"), {.name = "b", .content = std::string(513, 'b')}});
  const auto entries = entries_of(archive);
  ASSERT_OK(entries);
  ASSERT_EQ(entries->size(), 3U);
  EXPECT_EQ(archive.substr(entries->at(0).data_offset_bytes, entries->at(0).size_bytes), "content");
  EXPECT_EQ(entries->at(1).type, FileType::kDirectory);
  EXPECT_EQ(archive.substr(entries->at(2).data_offset_bytes, entries->at(2).size_bytes), std::string(513, 'b'));
}

TEST(TarReader, ReadsLongNamesOfPaxAndGnu) {
  const std::string name = std::string(300, 'n') + "/x";
  const std::string target = std::string(200, 't');
  const auto pax =
      entries_of(pax_member({{"path", name}, {"linkpath", target}, {"uid", "3000000"}, {"mtime", "1700000001.75"}}) +
                 tar_member(symlink("short", "short")));
  ASSERT_OK(pax);
  ASSERT_EQ(pax->size(), 1U);
  EXPECT_EQ(pax->front().name, name);
  EXPECT_EQ(pax->front().link_target, target);
  EXPECT_EQ(pax->front().uid, 3000000U);
  EXPECT_EQ(pax->front().mtime, 1700000001);
  const auto gnu =
      entries_of(tar_member({.name = "././@LongLink", .content = name + std::string(1, '\0'), .type = 'L'}) +
                 tar_member({.name = "././@LongLink", .content = target + std::string(1, '\0'), .type = 'K'}) +
                 tar_member(symlink("short", "short")));
  ASSERT_OK(gnu);
  EXPECT_EQ(gnu->front().name, name);
  EXPECT_EQ(gnu->front().link_target, target);
}

TEST(TarReader, RoundsTimesDown) {
  for (const auto& [text, seconds] : std::vector<std::pair<std::string, std::int64_t>>{{"0", 0},
                                                                                       {"1.999999999", 1},
                                                                                       {"-1.5", -2},
                                                                                       {"-1", -1},
                                                                                       {"-1.0", -1},
                                                                                       {"-0.5", -1},
                                                                                       {"1700000000.", 1700000000}}) {
    const auto entries = entries_of(pax_member({{"mtime", text}}) + tar({{.name = "f"}}));
    ASSERT_OK(entries);
    EXPECT_EQ(entries->front().mtime, seconds) << text;
  }
  for (const char* text : {"x", "1.x", ".", "--1", "1 2"}) {
    EXPECT_PRED2(contains, refusal(pax_member({{"mtime", text}}) + tar({{.name = "f"}})), "not a time") << text;
  }
}

TEST(TarReader, ReadsNumbersBeyondOctal) {
  auto member = tar_member({.name = "f"});
  // 2^33 in base 256, in the time field.
  member.replace(136, 12, std::string("\x80\0\0\0\0\0\0\x02\0\0\0\0", 12));
  member.replace(148, 8, "        ");
  unsigned long sum = 0;
  for (const char c : member.substr(0, 512)) sum += static_cast<unsigned char>(c);
  put_number(member, 148, 7, sum);
  member[154] = '\0';
  const auto entries = entries_of(member);
  ASSERT_OK(entries);
  EXPECT_EQ(entries->front().mtime, std::int64_t{1} << 33);
}

TEST(TarReader, AnEmptyPaxValueMeansTheRecordIsAbsent) {
  const auto entries = entries_of(pax_member({{"path", ""}, {"uid", ""}}) + tar({{.name = "f", .uid = 5}}));
  ASSERT_OK(entries);
  EXPECT_EQ(entries->front().name, "f");
  EXPECT_EQ(entries->front().uid, 5U);
}

TEST(TarReader, GlobalRecordsChangeNothing) {
  const auto entries = entries_of(tar_member({.name = "pax_global_header", .content = "11 comment=\n", .type = 'g'}) +
                                  tar({{.name = "f"}}));
  ASSERT_OK(entries);
  EXPECT_EQ(entries->size(), 1U);
}

TEST(TarReader, ANameThatEndsWithASlashIsAFolder) {
  const auto entries = entries_of(tar({{.name = "d/"}}));
  ASSERT_OK(entries);
  EXPECT_EQ(entries->front().type, FileType::kDirectory);
}

TEST(TarReader, EndsAtTwoZeroBlocksOrAtTheEndOfTheFile) {
  EXPECT_EQ(entries_of("")->size(), 0U);
  EXPECT_EQ(entries_of(tar_member({.name = "f"}))->size(), 1U);
  EXPECT_EQ(entries_of(tar({{.name = "f"}}) + "whatever follows")->size(), 1U);
  EXPECT_PRED2(contains, refusal(tar_member({.name = "f"}) + std::string(512, '\0') + tar_member({.name = "g"})),
               "zeros");
}

TEST(TarReader, RefusesBrokenHeadersAndSaysWhere) {
  EXPECT_PRED2(contains, refusal(std::string(512, 'x')), "byte 0: this is not a tar archive");
  EXPECT_PRED2(contains, refusal(tar_member({.name = "f"}) + std::string(512, 'x')), "byte 512: the checksum");
  EXPECT_PRED2(contains, refusal(tar_member({.name = "f"}).substr(0, 100)), "ends inside a header");
  EXPECT_PRED2(contains, refusal(tar_member({.name = "f", .content = "abc"}).substr(0, 514)), "ends inside \"f\"");
  EXPECT_PRED2(contains, refusal(pax_member({{"path", "x"}})), "after an extended header");
  EXPECT_PRED2(contains, refusal(pax_member({{"size", "-1"}}) + tar({{.name = "f"}})), "not a size");
  EXPECT_PRED2(contains, refusal(pax_member({{"size", "9223372036854775807"}}) + tar({{.name = "f"}})), "ends inside");
  EXPECT_PRED2(contains, refusal(pax_member({{"uid", "4294967296"}}) + tar({{.name = "f"}})),
               "not a user or group number");
  EXPECT_PRED2(contains, refusal(pax_member({{"path", std::string("a\0b", 3)}}) + tar({{.name = "f"}})), "zero byte");
  EXPECT_PRED2(contains, refusal(pax_member({{"path", std::string(5000, 'a')}}) + tar({{.name = "f"}})),
               "longer than 4095");
  EXPECT_PRED2(contains, refusal(pax_member({{"path", std::string(2 << 20, 'a')}}) + tar({{.name = "f"}})),
               "extended header of");
  for (const char* records :
       {"x", "5 a=b", "0 a=b\n", "99 a=b\n", "6 ab\n\n", "7 =abc\n", "9999999999999999999 a=b\n"}) {
    EXPECT_PRED2(contains, refusal(tar_member({.name = "pax", .content = records, .type = 'x'}) + tar({{.name = "f"}})),
                 "a pax record")
        << records;
  }
}

// Every format that GNU tar has for files with holes, made by GNU tar.
class SparseFile : public ::testing::TestWithParam<const char*> {};

TEST_P(SparseFile, OfGnuTarIsReadBack) {
  const testing::TempFolder folder;
  const auto path = folder / "sparse";
  auto file = open_file(path, O_RDWR | O_CREAT);
  ASSERT_OK(file);
  // More regions than a header holds, with a hole at the end.
  constexpr std::uint64_t kStep = 1 << 20;
  constexpr int kRegions = 60;
  for (int i = 0; i < kRegions; ++i) {
    ASSERT_OK(pwrite_all(file->get(), as_bytes("region " + std::to_string(i)), static_cast<std::uint64_t>(i) * kStep));
  }
  ASSERT_EQ(::ftruncate(file->get(), kRegions * kStep + 5), 0);
  const auto archive_path = folder / "archive.tar";
  const auto command = "tar --create --sparse " + std::string(GetParam()) + " --file " + archive_path + " -C " +
                       folder.path() + " sparse";
  ASSERT_EQ(std::system(command.c_str()), 0) << command;

  const auto archive = open_extent(archive_path);
  ASSERT_OK(archive);
  ASSERT_LT(archive->size_bytes, kRegions * kStep / 2) << "GNU tar found no holes";
  ExtentStream stream(*archive);
  TarReader reader(stream);
  TarEntry entry;
  ASSERT_OK(reader.next(entry));
  EXPECT_EQ(entry.name, "sparse");
  ASSERT_EQ(entry.size_bytes, kRegions * kStep + 5);
  ASSERT_TRUE(entry.regions);
  std::uint64_t stored = entry.data_offset_bytes;
  std::string content(entry.size_bytes, '\0');
  for (const auto& region : *entry.regions) {
    const auto part = std::as_writable_bytes(std::span(content)).subspan(region.offset_bytes, region.size_bytes);
    ASSERT_OK(archive->read(stored, part));
    stored += region.size_bytes;
  }
  std::string expected(entry.size_bytes, '\0');
  ASSERT_OK(pread_exact(file->get(), std::as_writable_bytes(std::span(expected)), 0));
  EXPECT_TRUE(content == expected);
  const auto more = reader.next(entry);
  ASSERT_OK(more);
  EXPECT_FALSE(*more);
}

INSTANTIATE_TEST_SUITE_P(OfEachFormat, SparseFile,
                         ::testing::Values("--format=gnu", "--format=posix --sparse-version=0.0",
                                           "--format=posix --sparse-version=0.1",
                                           "--format=posix --sparse-version=1.0"),
                         [](const auto& format) {
                           std::string name(format.param);
                           std::erase_if(name, [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; });
                           return name;
                         });

TEST(TarReader, RefusesMapsOfSparseFilesThatDoNotHold) {
  using Records = std::vector<std::pair<std::string, std::string>>;
  const auto with = [](const Records& records, const std::string& content) {
    return refusal(pax_member(records) + tar({{.name = "f", .content = content}}));
  };
  const auto old_map = [&with](const std::string& map, const std::string& size) {
    return with({{"GNU.sparse.map", map}, {"GNU.sparse.size", size}}, "12345678");
  };
  EXPECT_EQ(old_map("0,8", "8"), "");
  EXPECT_EQ(old_map("2,4,10,4", "20"), "");
  EXPECT_PRED2(contains, old_map("2,4,10,5", "20"), "are not what the archive stores");
  EXPECT_PRED2(contains, old_map("2,4,4,4", "20"), "overlap");
  EXPECT_PRED2(contains, old_map("8,4,0,4", "20"), "overlap");
  EXPECT_PRED2(contains, old_map("0,8", "7"), "behind the file");
  EXPECT_PRED2(contains, old_map("9223372036854775807,9223372036854775807", "9"), "behind the file");
  EXPECT_PRED2(contains, old_map("0,8,9", "20"), "without a size");
  EXPECT_PRED2(contains, old_map("0,x", "20"), "cannot be read");
  EXPECT_PRED2(contains, old_map("0,8", "-1"), "size of a sparse file");
  EXPECT_PRED2(contains, old_map("0,8", ""), "size of a sparse file");

  const auto stored_map = [&with](const std::string& content) {
    return with({{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.realsize", "20"}}, content);
  };
  const auto block = [](std::string text) {
    text.resize(512);
    return text;
  };
  EXPECT_EQ(stored_map(block("1\n4\n8\n") + "12345678"), "");
  EXPECT_PRED2(contains, stored_map(block("1\n4\n8\n") + "1234567"), "are not what the archive stores");
  EXPECT_PRED2(contains, stored_map(block("2\n4\n8\n") + "12345678"), "cut off");
  EXPECT_PRED2(contains, stored_map(block("x\n4\n8\n") + "12345678"), "number of regions");
  EXPECT_PRED2(contains, stored_map(block("99999999\n4\n8\n") + "12345678"), "number of regions");
  EXPECT_PRED2(contains, stored_map(std::string(512, '1')), "cut off");
  EXPECT_PRED2(contains, stored_map("1\n"), "cut off");
}

TEST(TarReader, CutAtAnyLengthEndsCleanlyOrIsRefused) {
  const auto whole =
      pax_member({{"path", "longer"}}) + tar({{.name = "f", .content = "abc"}, folder("d"), symlink("s", "d")});
  for (std::size_t size = 0; size < whole.size(); ++size) {
    const auto entries = entries_of(whole.substr(0, size));
    if (!entries) continue;
    EXPECT_LE(entries->size(), 3U);
  }
}

TEST(TarReader, RefusesAHeaderWithAnyByteChanged) {
  const auto whole = tar({{.name = "f", .content = "abc"}});
  for (std::size_t at = 0; at < 512; ++at) {
    if (at == 154 || at == 155) continue;  // what ends the checksum's digits is no part of it
    for (const int flip : {0x01, 0x80, 0xff}) {
      auto changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ flip);
      EXPECT_FALSE(entries_of(changed)) << at;  // the checksum covers the whole header
    }
  }
}

}  // namespace
}  // namespace nitro::image
