// SPDX-License-Identifier: Apache-2.0
// What layers make of a file system. Every expectation here is what Docker 20.10 did with the same layers ("docker
// load", "docker create", "docker export"), except where a test says otherwise.
#include "eif/image/tree.h"

#include <gtest/gtest.h>

#include "eif/image/ramdisk.h"
#include "heap.h"
#include "temp_folder.h"
#include "tests/unit/eif/image/layer_maker.h"

namespace nitro::image {
namespace {

Result<void> apply_layer(Tree& tree, const std::vector<Member>& members) {
  tree.begin_layer();
  ExtentStream stream(extent_of(tar(members)));
  TarReader reader(stream, plenty());
  TarEntry entry;
  for (;;) {
    NITRO_TRY(const bool more, reader.next(entry));
    if (!more) return {};
    NITRO_CHECK(tree.apply(entry));
  }
}

// "d 755 a", "f 644 a/x =5" (size), "l a/s -> target", "h a/h => a/x" (hard link), "c 600 tty 5,1".
std::vector<std::string> listing(const Tree& tree) {
  std::vector<std::string> lines;
  const auto walked = tree.walk([&lines](const Tree::Visit& file) -> Result<void> {
    constexpr const char* kTypes = "fdlcbp";
    const Inode& inode = file.inode;
    char mode[8];
    std::snprintf(mode, sizeof mode, "%o", static_cast<unsigned>(inode.mode));
    std::string line(1, kTypes[static_cast<int>(inode.type)]);
    if (!file.first_name.empty()) {
      line = "h " + std::string(file.path) + " => " + std::string(file.first_name);
    } else if (inode.type == FileType::kSymlink) {
      line += " " + std::string(file.path) + " -> " + std::string(file.link_target);
    } else {
      line += " " + std::string(mode) + " " + std::string(file.path);
      if (inode.type == FileType::kRegular) line += " =" + std::to_string(inode.size_bytes);
      if (inode.type == FileType::kCharDevice || inode.type == FileType::kBlockDevice) {
        line += " " + std::to_string(inode.device_major) + "," + std::to_string(inode.device_minor);
      }
    }
    lines.push_back(line);
    return {};
  });
  EXPECT_OK(walked);
  return lines;
}

std::vector<std::string> merged(const std::vector<std::vector<Member>>& layers) {
  Tree tree(plenty());
  for (const auto& layer : layers) EXPECT_OK(apply_layer(tree, layer));
  return listing(tree);
}

std::string refusal(const std::vector<std::vector<Member>>& layers) {
  Tree tree(plenty());
  for (const auto& layer : layers) {
    if (const auto applied = apply_layer(tree, layer); !applied) {
      EXPECT_EQ(applied.error().code(), ErrorCode::kEifBuilding);
      return applied.error().message();
    }
  }
  return "";
}

TEST(Tree, ListsAFolderBeforeItsContentAndNamesInTheOrderOfTheirBytes) {
  EXPECT_EQ(
      merged({{folder("b"),
               {.name = "b/2"},
               folder("a"),
               {.name = "b/10"},
               {.name = "a-x"},
               {.name = "a/z"},
               {.name = "B"}}}),
      (Lines{"f 644 B =0", "d 755 a", "f 644 a/z =0", "f 644 a-x =0", "d 755 b", "f 644 b/10 =0", "f 644 b/2 =0"}));
}

TEST(Tree, CleansNamesSoThatNothingLiesOutsideOfTheRoot) {
  EXPECT_EQ(merged({{{.name = "../x"}, {.name = "a/../../y"}, {.name = "/z"}, {.name = "./w/./v"}, folder("./")}}),
            (Lines{"d 755 w", "f 644 w/v =0", "f 644 x =0", "f 644 y =0", "f 644 z =0"}));
}

TEST(Tree, MakesFoldersThatNoEntryDescribes) {
  // Docker dates them with the time of day, and before version 23 made them 0600.
  Tree tree(plenty());
  ASSERT_OK(apply_layer(tree, {{.name = "p/q/f"}}));
  EXPECT_EQ(listing(tree), (Lines{"d 755 p", "d 755 p/q", "f 644 p/q/f =0"}));
  EXPECT_EQ(tree.find("p/q", Tree::Lookup::kNoFollow)->mtime, kFixedTime);
}

TEST(Tree, AWhiteoutRemovesWhatLowerLayersHave) {
  EXPECT_EQ(merged({{folder("a"), {.name = "a/f"}, {.name = "a/g"}, folder("d"), {.name = "d/x"}},
                    {{.name = "a/.wh.f"}, {.name = ".wh.d"}}}),
            (Lines{"d 755 a", "f 644 a/g =0"}));
}

TEST(Tree, AWhiteoutOfNothingIsNoError) {
  EXPECT_EQ(merged({{folder("a"), {.name = "a/.wh.f"}, {.name = ".wh.b"}}}), (Lines{"d 755 a"}));
}

TEST(Tree, AFileComesBackInALayerAboveItsWhiteout) {
  EXPECT_EQ(merged({{{.name = "f", .content = "1"}}, {{.name = ".wh.f"}}, {{.name = "f", .content = "22"}}}),
            (Lines{"f 644 f =2"}));
}

TEST(Tree, AnOpaqueFolderHidesLowerLayersButNotItsOwn) {
  const std::vector<Member> lower{folder("a"), {.name = "a/old"}, folder("a/s"), {.name = "a/s/old"}};
  EXPECT_EQ(merged({lower, {folder("a", 0700), {.name = "a/.wh..wh..opq"}, {.name = "a/new"}}}),
            (Lines{"d 700 a", "f 644 a/new =0"}));
  EXPECT_EQ(merged({lower, {{.name = "a/new"}, folder("a/s"), {.name = "a/s/new"}, {.name = "a/.wh..wh..opq"}}}),
            (Lines{"d 755 a", "f 644 a/new =0", "d 755 a/s", "f 644 a/s/new =0"}));
  EXPECT_EQ(merged({lower, {{.name = ".wh..wh..opq"}, {.name = "z"}}}), (Lines{"f 644 z =0"}));
}

TEST(Tree, AnOpaqueMarkerInASymbolicLinkHidesNothing) {
  EXPECT_EQ(merged({{folder("a"), {.name = "a/f"}, symlink("s", "a")}, {{.name = "s/.wh..wh..opq"}}}),
            (Lines{"d 755 a", "f 644 a/f =0", "l s -> a"}));
}

TEST(Tree, AWhiteoutBelowALinkThatLeadsNowhereOrInAnOpaqueFileRemovesNothing) {
  EXPECT_EQ(merged({{symlink("s", "nowhere"), {.name = "f"}},
                    {{.name = "s/.wh.x"}, {.name = "s/.wh..wh..opq"}, {.name = "f/.wh..wh..opq"}}}),
            (Lines{"f 644 f =0", "l s -> nowhere"}));
  EXPECT_PRED2(contains, refusal({{{.name = "f"}, {.name = "f/.wh.x"}}}), "not a folder");
}

TEST(Tree, WhiteoutsThatNameTheirFolderRemoveItAndNeverTheRoot) {
  const std::vector<Member> lower{folder("a"), {.name = "a/f"}, folder("b"), folder("b/c")};
  EXPECT_EQ(merged({lower, {{.name = "a/.wh.."}}}), (Lines{"d 755 b", "d 755 b/c"}));
  EXPECT_EQ(merged({lower, {{.name = "b/c/.wh..."}}}), (Lines{"d 755 a", "f 644 a/f =0"}));
  EXPECT_PRED2(contains, refusal({lower, {{.name = "a/.wh..."}}}), "root");
  EXPECT_PRED2(contains, refusal({lower, {{.name = ".wh."}}}), "root");
}

TEST(Tree, FilesAndFoldersReplaceEachOther) {
  EXPECT_EQ(merged({{folder("x"), {.name = "x/in"}, {.name = "y"}},
                    {{.name = "x", .content = "1"}, folder("y"), {.name = "y/in"}}}),
            (Lines{"f 644 x =1", "d 755 y", "f 644 y/in =0"}));
  EXPECT_EQ(merged({{folder("x"), {.name = "x/in"}}, {{.name = "x"}}, {folder("x", 0700)}}), (Lines{"d 700 x"}));
}

TEST(Tree, AFolderTakesTheAttributesOfTheUpperLayerAndKeepsItsContent) {
  EXPECT_EQ(merged({{folder("a", 0755), {.name = "a/f"}}, {folder("a/", 01777)}}), (Lines{"d 1777 a", "f 644 a/f =0"}));
}

TEST(Tree, HardLinksShareOneFileAndTheFirstNameInOrderIsTheFile) {
  EXPECT_EQ(merged({{{.name = "b", .content = "12"}, hard_link("a", "b"), hard_link("c", "/b")}}),
            (Lines{"f 644 a =2", "h b => a", "h c => a"}));
}

TEST(Tree, AHardLinkMayLeadToALowerLayer) {
  EXPECT_EQ(merged({{{.name = "f", .content = "1"}}, {hard_link("h", "../../f")}}), (Lines{"f 644 f =1", "h h => f"}));
}

TEST(Tree, AFileWhoseOtherNamesAreGoneIsNoLinkAnyMore) {
  EXPECT_EQ(merged({{{.name = "f", .content = "1"}, hard_link("h", "f")}, {{.name = ".wh.f"}}}), (Lines{"f 644 h =1"}));
}

TEST(Tree, AHardLinksEntryChangesTheFileItLinksTo) {
  Tree tree(plenty());
  auto link = hard_link("h", "f");
  link.mode = 04711;
  link.uid = 7;
  link.mtime = 1600000000;
  ASSERT_OK(apply_layer(tree, {{.name = "f", .content = "1"}, link}));
  const Inode* file = tree.find("f", Tree::Lookup::kNoFollow);
  ASSERT_NE(file, nullptr);
  EXPECT_EQ(file->mode, 04711);
  EXPECT_EQ(file->uid, 7U);
  EXPECT_EQ(file->mtime, 1600000000);
}

TEST(Tree, AHardLinkToASymbolicLinkIsASecondSymbolicLink) {
  EXPECT_EQ(merged({{symlink("s", "f"), hard_link("zs", "s")}}), (Lines{"l s -> f", "h zs => s"}));
}

TEST(Tree, RefusesHardLinksToNothingToFoldersAndToThemselves) {
  EXPECT_PRED2(contains, refusal({{hard_link("h", "nothing")}}), "\"h\"");
  EXPECT_PRED2(contains, refusal({{hard_link("h", "nothing")}}), "\"nothing\"");
  EXPECT_PRED2(contains, refusal({{folder("d"), hard_link("h", "d")}}), "folder");
  EXPECT_PRED2(contains, refusal({{{.name = "f"}, hard_link("f", "f")}}), "does not have");
  EXPECT_PRED2(contains, refusal({{hard_link("h", "../..")}}), "root");
}

TEST(Tree, FollowsSymbolicLinksAboveAnEntryInsideTheRoot) {
  EXPECT_EQ(merged({{folder("usr"), folder("usr/lib"), symlink("lib", "usr/lib"), symlink("out", "/../../usr")},
                    {{.name = "lib/a"}, {.name = "out/b"}, {.name = "lib/new/c"}}}),
            (Lines{"l lib -> usr/lib", "l out -> /../../usr", "d 755 usr", "f 644 usr/b =0", "d 755 usr/lib",
                   "f 644 usr/lib/a =0", "d 755 usr/lib/new", "f 644 usr/lib/new/c =0"}));
}

TEST(Tree, AFolderReplacesASymbolicLinkOfItsName) {
  EXPECT_EQ(merged({{folder("usr"), symlink("lib", "usr")}, {folder("lib"), {.name = "lib/a"}}}),
            (Lines{"d 755 lib", "f 644 lib/a =0", "d 755 usr"}));
}

TEST(Tree, RefusesEntriesBelowWhatIsNoFolder) {
  EXPECT_PRED2(contains, refusal({{symlink("lib", "nowhere")}, {{.name = "lib/a"}}}), "leads nowhere");
  EXPECT_PRED2(contains, refusal({{symlink("a", "b"), symlink("b", "a"), {.name = "a/f"}}}), "too many symbolic links");
  EXPECT_PRED2(contains, refusal({{{.name = "f"}, {.name = "f/a"}}}), "not a folder");
  EXPECT_PRED2(contains, refusal({{{.name = "f"}, {.name = "f/x/a"}}}), "not a folder");
}

TEST(Tree, RefusesMembersThatHaveNoPlaceInALayer) {
  EXPECT_PRED2(contains, refusal({{{.name = "c", .type = '7'}}}), "\"7\"");
  EXPECT_PRED2(contains, refusal({{{.name = "./", .type = '6'}}}), "root");
}

TEST(Tree, RefusesNamesThatLinuxCannotHold) {
  EXPECT_EQ(refusal({{{.name = std::string(90, 'a') + "/"}}}), "");
  Tree tree(plenty());
  tree.begin_layer();
  TarEntry entry;
  entry.name = std::string(256, 'a');
  EXPECT_FALSE(tree.apply(entry));
  entry.name = std::string(255, 'a');
  EXPECT_OK(tree.apply(entry));
}

TEST(Tree, ReplacedWithLinksItCannotGrowPathsWithoutEnd) {
  Tree tree(plenty());
  tree.begin_layer();
  TarEntry entry;
  entry.type = FileType::kDirectory;
  Result<void> applied;
  int depth = 0;
  // Every round moves the link "l" one folder further down.
  for (; applied && depth < 100; ++depth) {
    entry.kind = TarEntry::Kind::kFile;
    entry.type = FileType::kDirectory;
    entry.name = (depth == 0 ? "" : "l/") + std::string(200, 'd');
    applied = tree.apply(entry);
    std::string target;
    for (int i = 0; i <= depth; ++i) target += "/" + std::string(200, 'd');
    entry.type = FileType::kSymlink;
    entry.name = "l";
    entry.link_target = target;
    if (applied) applied = tree.apply(entry);
  }
  EXPECT_FALSE(applied);
  EXPECT_LT(depth, 25);
}

TEST(Tree, KeepsSetIdBitsDevicesAndTimesAsDockerDoes) {
  Tree tree(plenty());
  ASSERT_OK(apply_layer(tree, {{.name = "su", .mode = 06755},
                               {.name = "tty", .type = '3', .mode = 0600, .device_major = 5, .device_minor = 1},
                               {.name = "disk", .type = '4', .mode = 0660, .device_major = 8, .device_minor = 17},
                               {.name = "pipe", .type = '6', .mode = 0600}}));
  EXPECT_EQ(listing(tree), (Lines{"b 660 disk 8,17", "p 600 pipe", "f 6755 su =0", "c 600 tty 5,1"}));
  // Before 1970 becomes 1970, for everything but symbolic links.
  TarEntry entry;
  entry.name = "old";
  entry.mtime = -5;
  ASSERT_OK(tree.apply(entry));
  EXPECT_EQ(tree.find("old", Tree::Lookup::kNoFollow)->mtime, 0);
  entry.name = "old-link";
  entry.type = FileType::kSymlink;
  entry.link_target = "x";
  ASSERT_OK(tree.apply(entry));
  EXPECT_EQ(tree.find("old-link", Tree::Lookup::kNoFollow)->mtime, -5);
}

TEST(Tree, PassesOverTheFilesOfOldEnginesAndFindsTheirHardLinks) {
  EXPECT_EQ(merged({{{.name = ".wh..wh.aufs"},
                     folder(".wh..wh.plnk"),
                     {.name = ".wh..wh.plnk/1.2", .content = "linked"},
                     hard_link("x", ".wh..wh.plnk/1.2"),
                     folder(".wh..wh.orph")}}),
            (Lines{"d 755 .wh..wh.plnk", "f 644 x =6"}));
}

TEST(Tree, MakesAFileOfItsOwnOfEachLinkToWhatOldEnginesKept) {
  Tree tree(plenty());
  ASSERT_OK(apply_layer(tree, {{.name = ".wh..wh.plnk/1.2", .content = "linked", .mode = 0640},
                               hard_link("x", ".wh..wh.plnk/1.2"),
                               hard_link("y", ".wh..wh.plnk/1.2")}));
  EXPECT_EQ(listing(tree), (Lines{"d 755 .wh..wh.plnk", "f 640 x =6", "f 640 y =6"}));
  EXPECT_EQ(tree.find("x", Tree::Lookup::kNoFollow)->data_offset_bytes,
            tree.find("y", Tree::Lookup::kNoFollow)->data_offset_bytes);
}

TEST(Tree, AHeaderOfGlobalRecordsRemovesWhatHasItsName) {
  const Member global{.name = "d/pax_global_header", .content = "12 comment=\n", .type = 'g'};
  EXPECT_EQ(merged({{folder("d"), {.name = "d/pax_global_header"}, {.name = "d/f"}}, {global}}),
            (Lines{"d 755 d", "f 644 d/f =0"}));
  EXPECT_EQ(merged({{global}}), (Lines{"d 755 d"}));
}

TEST(Tree, HoldsNoMoreFilesThanItsLimit) {
  const auto refusal_at = [](std::size_t limit, const std::vector<Member>& members) {
    Tree tree(plenty(), limit);
    const auto applied = apply_layer(tree, members);
    return applied ? "" : applied.error().message();
  };
  // The root is one, too.
  const std::vector<Member> files{{.name = "a"}, {.name = "b"}, {.name = "c"}};
  EXPECT_EQ(refusal_at(4, files), "");
  EXPECT_PRED2(contains, refusal_at(3, files), "entry \"c\": the image has more than 3 files");
  // A second name is no second file, but it counts as much.
  const std::vector<Member> links{{.name = "a"}, hard_link("b", "a"), hard_link("c", "a")};
  EXPECT_EQ(refusal_at(4, links), "");
  EXPECT_PRED2(contains, refusal_at(3, links), "entry \"c\": the image has more than 3 files");
  // Neither is a file that replaces another, but that takes its place in the tree only.
  EXPECT_EQ(refusal_at(4, {{.name = "a"}, {.name = "a"}, {.name = "a"}}), "");
  EXPECT_PRED2(contains, refusal_at(3, {{.name = "a"}, {.name = "a"}, {.name = "a"}}), "more than 3 files");
}

TEST(Tree, ChargesAllThatItHolds) {
  Budget budget(2 << 20);
  Tree tree(budget);
  tree.begin_layer();
  const auto fill = [&tree](const std::function<void(TarEntry&, int)>& make) {
    for (int i = 0; i < 1'000'000; ++i) {
      TarEntry entry;
      make(entry, i);
      if (const auto applied = tree.apply(entry); !applied) return applied.error().message();
    }
    return std::string();
  };
  EXPECT_PRED2(contains, fill([](TarEntry& entry, int i) { entry.name = std::to_string(i); }),
               "the image would take more than the 2 MiB of memory that an image may take");
  EXPECT_GT(budget.used_bytes(), 1U << 20);
}

TEST(Tree, TakesSome150BytesAFile) {
  constexpr std::size_t kFolders = 1000;
  constexpr std::size_t kFilesInOne = 200;
  Budget budget;
  const auto before = testing::heap_bytes();
  Tree tree(budget);
  tree.begin_layer();
  TarEntry entry;
  for (std::size_t i = 0; i < kFolders; ++i) {
    for (std::size_t j = 0; j < kFilesInOne; ++j) {
      entry.name = "folder" + std::to_string(i) + "/file" + std::to_string(j);
      ASSERT_OK(tree.apply(entry));
    }
  }
  const auto taken = testing::heap_bytes() - before;
  // The lists have room for up to as much again as is in them.
  EXPECT_LT(taken, 200 * tree.file_count());
  EXPECT_LE(taken, budget.used_bytes()) << "something is held that is not charged";
}

TEST(Tree, KeepsLittleOfWhatAufsKeeps) {
  Tree tree(plenty());
  tree.begin_layer();
  Result<void> applied;
  int count = 0;
  for (; applied && count < 1'000'000; ++count) {
    TarEntry entry;
    entry.name = ".wh..wh.plnk/" + std::to_string(count);
    applied = tree.apply(entry);
  }
  ASSERT_FALSE(applied);
  EXPECT_PRED2(contains, applied.error().message(), "what AUFS keeps for hard links would take more than the 16 MiB");
  EXPECT_GT(count, 50'000);
}

TEST(Tree, CountsTheContentsOfEveryFileThatLinksMake) {
  Tree tree(plenty());
  tree.begin_layer();
  TarEntry kept;
  kept.name = ".wh..wh.plnk/1";
  kept.size_bytes = std::uint64_t{3} << 30;
  ASSERT_OK(tree.apply(kept));
  Result<void> applied;
  int count = 0;
  for (; applied && count < 100; ++count) {
    TarEntry link;
    link.kind = TarEntry::Kind::kHardLink;
    link.name = std::to_string(count);
    link.link_target = kept.name;
    applied = tree.apply(link);
  }
  EXPECT_EQ(count, 22);  // 64 GiB in pieces of 3, and the one that is too much
  ASSERT_FALSE(applied);
  EXPECT_PRED2(contains, applied.error().message(), "larger than 64 GiB together");
}

TEST(ContainerFiles, TakeThePlaceOfFilesAndLinksButNotOfFolders) {
  Tree tree(plenty());
  ASSERT_OK(apply_layer(
      tree, {symlink("etc", "system/etc"), {.name = "system/etc/hosts"}, symlink("dev", "/system"), {.name = "proc"}}));
  ASSERT_OK(add_container_files(tree, ""));
  EXPECT_EQ(listing(tree), (Lines{"f 755 .dockerenv =0", "d 755 dev", "f 755 dev/console =0", "d 755 dev/pts",
                                  "d 755 dev/shm", "d 755 etc", "f 755 etc/hostname =0", "f 755 etc/hosts =0",
                                  "l etc/mtab -> /proc/mounts", "f 755 etc/resolv.conf =0", "d 755 proc", "d 755 sys",
                                  "d 755 system", "d 755 system/etc", "f 644 system/etc/hosts =0"}));
  Tree folders(plenty());
  ASSERT_OK(apply_layer(folders, {folder("etc/hosts", 0711), folder("etc/mtab", 0711), folder("dev/console", 0711),
                                  symlink("dev/pts", "/x")}));
  ASSERT_OK(add_container_files(folders, ""));
  EXPECT_EQ(folders.find("etc/hosts", Tree::Lookup::kNoFollow)->type, FileType::kDirectory);
  EXPECT_EQ(folders.find("etc/mtab", Tree::Lookup::kNoFollow)->type, FileType::kDirectory);
  EXPECT_EQ(folders.find("dev/console", Tree::Lookup::kNoFollow)->type, FileType::kDirectory);
  EXPECT_EQ(folders.find("dev/pts", Tree::Lookup::kNoFollow)->type, FileType::kDirectory);
}

TEST(ContainerFiles, IncludeTheWorkingFolder) {
  Tree tree(plenty());
  ASSERT_OK(apply_layer(tree, {folder("b"), folder("b/c", 0700), symlink("a", "/b/c")}));
  ASSERT_OK(add_container_files(tree, "/a/new/../w"));
  ASSERT_NE(tree.find("b/c/w", Tree::Lookup::kNoFollow), nullptr);
  EXPECT_EQ(tree.find("b/c/w", Tree::Lookup::kNoFollow)->mode, 0755);
  EXPECT_EQ(tree.find("b/c/new", Tree::Lookup::kNoFollow), nullptr);

  Tree taken(plenty());
  ASSERT_OK(apply_layer(taken, {{.name = "a"}}));
  const auto refused = add_container_files(taken, "/a");
  ASSERT_FALSE(refused);
  EXPECT_PRED2(contains, refused.error().message(), "\"/a\"");
}

}  // namespace
}  // namespace nitro::image
