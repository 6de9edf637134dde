// SPDX-License-Identifier: Apache-2.0
#include "eif/image/tar.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cctype>
#include <cstdlib>

#include "temp_folder.h"
#include "tests/unit/eif/image/layer_maker.h"

namespace nitro::image {
namespace {

Result<std::vector<TarEntry>> entries_of(const std::string& archive) {
  ExtentStream stream(extent_of(archive));
  TarReader reader(stream, plenty());
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
  sign_header(member);
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

// What Go's archive/tar (1.26) makes of each of these archives, which is what engines make of them.
std::string told(const std::vector<std::string>& parts) {
  std::string archive;
  for (const auto& part : parts) archive += part;
  const auto entries = entries_of(archive);
  if (!entries) return "refused";
  std::string text;
  for (const auto& entry : *entries) {
    text += (text.empty() ? "" : "; ") + std::string(1, entry.type_flag) + " " + entry.name;
    if (!entry.link_target.empty()) text += " -> " + entry.link_target;
    if (entry.size_bytes > 0) text += " =" + std::to_string(entry.size_bytes);
  }
  return text;
}

TEST(TarReader, ReadsExtendedHeadersAsGoDoes) {
  const auto name = [](const std::string& text) { return tar_member({.name = "L", .content = text, .type = 'L'}); };
  const auto target = [](const std::string& text) { return tar_member({.name = "K", .content = text, .type = 'K'}); };
  const auto file = tar_member({.name = "f"});
  const auto link = tar_member(symlink("f", "t"));
  // GNU's long names win, in any order; the last one of a kind counts.
  EXPECT_EQ(told({name("gnu"), pax_member({{"path", "pax"}}), file}), "0 gnu");
  EXPECT_EQ(told({pax_member({{"path", "pax"}}), name("gnu"), file}), "0 gnu");
  EXPECT_EQ(told({target("gnu"), pax_member({{"linkpath", "pax"}}), link}), "2 f -> gnu");
  EXPECT_EQ(told({name("one"), name("two"), file}), "0 two");
  EXPECT_EQ(told({name(std::string("n\0m", 3)), file}), "0 n");
  EXPECT_EQ(told({name(""), file}), "0 f");
  // A second extended header replaces the first.
  EXPECT_EQ(told({pax_member({{"path", "one"}}), pax_member({{"linkpath", "two"}}), link}), "2 f -> two");
  EXPECT_EQ(told({pax_member({{"path", "one"}}), pax_member({}), file}), "0 f");
  EXPECT_EQ(told({pax_member({{"path", "one"}, {"path", "two"}}), file}), "0 two");
  EXPECT_EQ(told({pax_member({{"path", "one"}, {"path", ""}}), file}), "0 f");
  // One without a member counts for nothing.
  EXPECT_EQ(told({file, pax_member({{"path", "one"}})}), "0 f");
  EXPECT_EQ(told({file, name("one"), std::string(1024, '\0')}), "0 f");
  // What is in a record is looked at even where nobody uses it.
  EXPECT_EQ(told({pax_member({{"atime", "x"}}), file}), "refused");
  EXPECT_EQ(told({pax_member({{"ctime", "1.5x"}}), file}), "refused");
  EXPECT_EQ(told({pax_member({{"uname", std::string("a\0b", 3)}}), file}), "refused");
  EXPECT_EQ(told({pax_member({{std::string("a\0b", 3), "c"}}), file}), "refused");
  EXPECT_EQ(told({pax_member({{"comment", std::string("a\0b", 3)}}), file}), "0 f");
  EXPECT_EQ(told({pax_member({{"uid", "+5"}}), file}), "0 f");
  EXPECT_EQ(told({pax_member({{"uid", "+-5"}}), file}), "refused");
  EXPECT_EQ(told({pax_member({{"size", "5"}}), tar_member({.name = "f", .content = "123"})}), "0 f =5");
  EXPECT_EQ(told({pax_member({{"size", "-5"}}), tar_member(folder("d/"))}), "5 d/");
}

TEST(TarReader, GivesGlobalRecordsAsAMemberThatHasNothingButAName) {
  const auto global = tar_member({.name = "pax_global_header", .content = "12 comment=\n", .type = 'g'});
  EXPECT_EQ(told({global, tar_member({.name = "f"})}), "g pax_global_header; 0 f");
  // What waited for the next member waited for this one.
  EXPECT_EQ(told({pax_member({{"path", "x"}}), global, tar_member({.name = "f"})}), "g pax_global_header; 0 f");
  EXPECT_EQ(told({tar_member({.name = "g", .content = "no records", .type = 'g'}), tar_member({.name = "f"})}),
            "refused");
}

TEST(TarReader, ReadsSparseFilesOfPaxAsGoDoes) {
  const auto sparse = [](std::vector<std::pair<std::string, std::string>> records) {
    records.emplace_back("GNU.sparse.map", "0,3");
    records.emplace_back("GNU.sparse.numblocks", "1");
    records.emplace_back("GNU.sparse.size", "9");
    return told({pax_member(records), tar_member({.name = "f", .content = "123"})});
  };
  EXPECT_EQ(sparse({}), "0 f =9");
  EXPECT_EQ(sparse({{"GNU.sparse.major", "0"}, {"GNU.sparse.minor", "1"}}), "0 f =9");
  // Of a version that is not known: a file like others.
  EXPECT_EQ(sparse({{"GNU.sparse.major", "2"}, {"GNU.sparse.minor", "0"}}), "0 f =3");
  EXPECT_EQ(sparse({{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "1"}}), "0 f =3");
  EXPECT_EQ(sparse({{"GNU.sparse.major", "0"}}), "0 f =3");
  EXPECT_EQ(sparse({{"GNU.sparse.name", "real"}}), "0 real =9");
  const auto numbers = [](const std::vector<std::pair<std::string, std::string>>& records, const char* regions = "1") {
    auto all = records;
    all.emplace_back("GNU.sparse.numblocks", regions);
    all.emplace_back("GNU.sparse.size", "9");
    return told({pax_member(all), tar_member({.name = "f", .content = "123"})});
  };
  EXPECT_EQ(numbers({{"GNU.sparse.offset", "0"}, {"GNU.sparse.numbytes", "3"}}), "0 f =9");
  EXPECT_EQ(numbers({{"GNU.sparse.numbytes", "3"}, {"GNU.sparse.offset", "0"}}), "refused");
  EXPECT_EQ(numbers({{"GNU.sparse.offset", "0,3"}, {"GNU.sparse.numbytes", ""}}), "refused");
  // Several numbers in one record would be as many as are needed.
  EXPECT_EQ(numbers({{"GNU.sparse.offset", "0,3,3"}, {"GNU.sparse.numbytes", "0"}}, "2"), "refused");
  // Only files have holes.
  EXPECT_EQ(told({pax_member({{"GNU.sparse.map", "0,0"}, {"GNU.sparse.numblocks", "1"}}), tar_member(folder("d/"))}),
            "refused");
}

TEST(TarReader, ReadsHeadersAsGoDoes) {
  const auto changed = [](std::size_t at, const std::string& bytes, char type = '0') {
    auto member = tar_member({.name = "f", .type = type});
    member.replace(at, bytes.size(), bytes);
    sign_header(member);
    return told({member});
  };
  EXPECT_EQ(changed(263, "xy"), "0 f") << "the version of ustar is not looked at";
  EXPECT_EQ(changed(345, "prefix"), "0 prefix/f");
  EXPECT_EQ(changed(257, std::string(8, 'x')), "0 f") << "without a known magic it is of the oldest kind";
  EXPECT_EQ(changed(100, "-000644"), "refused");
  EXPECT_EQ(changed(100, "000x644"), "refused");
  EXPECT_EQ(changed(100, std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8)), "0 f") << "-1 in base 256";
  EXPECT_EQ(changed(124, std::string(12, '\xff')), "refused") << "a negative size";
  EXPECT_EQ(changed(124, std::string(12, '\xff'), '5'), "5 f") << "which a folder does not have";
  EXPECT_EQ(changed(329, "x"), "refused") << "device numbers have to be some";
  EXPECT_EQ(changed(329, "x", '1'), "refused");
}

TEST(TarReader, ANameThatEndsWithASlashIsAFolderInArchivesFromBeforeThereWereFolders) {
  const auto old = entries_of(tar({{.name = "d/", .type = '\0'}}));
  ASSERT_OK(old);
  EXPECT_EQ(old->front().type, FileType::kDirectory);
  const auto entries = entries_of(tar({{.name = "d/"}}));
  ASSERT_OK(entries);
  EXPECT_EQ(entries->front().type, FileType::kRegular);
}

TEST(TarReader, TakesChecksumsOfSignedBytesAsOldWritersMadeThem) {
  auto member = tar_member({.name = "\xc3\xbc"});
  member.replace(148, 8, "        ");
  long sum = 0;
  for (std::size_t i = 0; i < 512; ++i) sum += static_cast<signed char>(member[i]);
  put_number(member, 148, 7, static_cast<unsigned long>(sum));
  EXPECT_EQ(told({member}), "0 \xc3\xbc");
  put_number(member, 148, 7, static_cast<unsigned long>(sum + 1));
  EXPECT_EQ(told({member}), "refused");
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
  EXPECT_PRED2(contains, refusal(tar_member({.name = "f"}) + std::string(700, '\0')), "zeros");
  EXPECT_PRED2(contains, refusal(pax_member({{"size", "-1"}}) + tar({{.name = "f"}})), "not a size");
  EXPECT_PRED2(contains, refusal(pax_member({{"size", "9223372036854775807"}}) + tar({{.name = "f"}})), "ends inside");
  EXPECT_PRED2(contains, refusal(pax_member({{"uid", "4294967296"}}) + tar({{.name = "f"}})),
               "not a user or group number");
  EXPECT_PRED2(contains, refusal(pax_member({{"path", std::string("a\0b", 3)}}) + tar({{.name = "f"}})), "zero byte");
  EXPECT_PRED2(contains,
               refusal(pax_member({{"GNU.sparse.name", std::string("a\0b", 3)},
                                   {"GNU.sparse.map", "0,0"},
                                   {"GNU.sparse.numblocks", "1"}}) +
                       tar({{.name = "f"}})),
               "zero byte");
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
  TarReader reader(stream, plenty());
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
    const auto regions = std::to_string((std::count(map.begin(), map.end(), ',') + 1) / 2);
    return with({{"GNU.sparse.map", map}, {"GNU.sparse.numblocks", regions}, {"GNU.sparse.size", size}}, "12345678");
  };
  EXPECT_EQ(old_map("0,8", "8"), "");
  EXPECT_EQ(old_map("2,4,10,4", "20"), "");
  EXPECT_PRED2(contains, old_map("2,4,10,5", "20"), "are not what the archive stores");
  EXPECT_PRED2(contains, old_map("2,4,4,4", "20"), "overlap");
  EXPECT_PRED2(contains, old_map("8,4,0,4", "20"), "overlap");
  EXPECT_PRED2(contains, old_map("0,8", "7"), "behind the file");
  EXPECT_PRED2(contains, old_map("9223372036854775807,9223372036854775807", "9"), "behind the file");
  EXPECT_PRED2(contains, old_map("0,8,9", "20"), "another number of regions");
  EXPECT_PRED2(contains, old_map("0,x", "20"), "cannot be read");
  EXPECT_PRED2(contains, old_map("0,8", "-1"), "size of a sparse file");
  const auto empty_regions = [](std::size_t count) {
    std::string map = "0,8";
    while (--count > 0) map += ",8,0";
    return map;
  };
  EXPECT_EQ(old_map(empty_regions(100'000), "8"), "");
  EXPECT_PRED2(contains, old_map(empty_regions(100'001), "8"), "more than 100000 regions");
  EXPECT_EQ(old_map("0,8", ""), "");

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

  // Few regions, but leading zeros without end.
  const auto with_zeros = [&](std::size_t zeros) {
    return stored_map(std::string(zeros, '0') + block("1\n4\n8\n") + "12345678");
  };
  EXPECT_EQ(with_zeros(kMaxExtendedHeaderBytes - 512), "");
  EXPECT_PRED2(contains, with_zeros(kMaxExtendedHeaderBytes), "longer than the 1048576 bytes");
}

// The format of old GNU tar: a header, and blocks of more regions as long as each says that there is another.
std::string old_gnu_sparse_file(std::size_t more_blocks) {
  auto header = tar_member({.name = "f", .type = 'S'});
  header.replace(257, 8, std::string("ustar  \0", 8));
  put_number(header, 483, 12, 100);
  header[482] = '\1';
  sign_header(header);
  std::string archive = header;
  for (std::size_t i = 1; i <= more_blocks; ++i) {
    archive += std::string(504, '\0') + (i < more_blocks ? '\1' : '\0') + std::string(7, '\0');
  }
  return archive + std::string(1024, '\0');
}

TEST(TarReader, ReadsMapsOfOldSparseFilesUpToALimit) {
  EXPECT_EQ(refusal(old_gnu_sparse_file(1)), "");
  EXPECT_EQ(refusal(old_gnu_sparse_file(2047)), "");
  EXPECT_PRED2(contains, refusal(old_gnu_sparse_file(2048)), "the map of a sparse file is too long");
}

TEST(TarReader, CutAtAnyLengthGivesTheMembersThatAreWholeOrIsRefused) {
  const auto records = pax_member({{"path", "longer"}});
  const auto whole = records + tar({{.name = "f", .content = "abc"}, folder("d"), symlink("s", "d")});
  // Where an archive may end: between members, in the padding behind a content, and after one block of zeros.
  const auto members_of = [&](std::size_t size) -> int {
    constexpr std::size_t kRecordBytes = 15;  // "15 path=longer\n"
    if (size == 0 || (size >= 512 + kRecordBytes && size <= 1024)) return 0;
    if (size >= 1536 + 3 && size <= 2048) return 1;
    if (size == 2560) return 2;
    if (size == 3072 || size == 3584 || size == 4096) return 3;
    return -1;
  };
  ASSERT_EQ(whole.size(), 4096U);
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    const auto entries = entries_of(whole.substr(0, size));
    EXPECT_EQ(entries ? static_cast<int>(entries->size()) : -1, members_of(size)) << size;
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
