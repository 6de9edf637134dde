// SPDX-License-Identifier: Apache-2.0
// Any bytes as layers: reading, merging and writing the ramdisk must end with an answer or an error of the input.
//
// The first byte chooses. Even: the rest is a tar archive, whose checksums are put right first, or no change would get
// past them. Odd: the rest are entries in a short form (kind, name from a small alphabet, link target), which get to
// the rules of the tree at once.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "eif/image/ramdisk.h"
#include "nitro/bytes.h"
#include "tests/fuzz/fuzz.h"

using nitro::ErrorCode;
using nitro::Fd;
using nitro::Result;
namespace image = nitro::image;

namespace {

using nitro::fuzz::require;

constexpr std::size_t kBlock = 512;

void put_checksums_right(std::string& archive) {
  for (std::size_t at = 0; at + kBlock <= archive.size(); at += kBlock) {
    if (archive.compare(at + 257, 5, "ustar") != 0) continue;
    archive.replace(at + 148, 8, "        ");
    unsigned sum = 0;
    for (std::size_t i = 0; i < kBlock; ++i) sum += static_cast<unsigned char>(archive[at + i]);
    char digits[8];
    std::snprintf(digits, sizeof digits, "%06o", sum);
    archive.replace(at + 148, 7, digits, 7);
  }
}

image::Extent extent_of(const std::string& bytes) {
  return {std::make_shared<const Fd>(nitro::fuzz::file_of(bytes)), 0, bytes.size()};
}

// The tree holds together whatever it was made of, and so does the ramdisk.
void check(image::Tree& tree, const std::vector<image::Extent>& layers) {
  if (!image::add_container_files(tree, "/work/folder")) return;
  struct Level {
    std::string folder;
    std::string last;  // name that was visited in it
  };
  std::vector<Level> levels{{}};
  std::set<std::string, std::less<>> first_names;
  const auto walked = tree.walk([&](const image::Tree::Visit& file) -> Result<void> {
    require(!file.path.empty() && file.path.size() <= image::kMaxPathBytes);
    const auto slash = file.path.rfind('/');
    const auto name = slash == std::string_view::npos ? file.path : file.path.substr(slash + 1);
    const auto folder = slash == std::string_view::npos ? std::string_view() : file.path.substr(0, slash);
    require(!name.empty() && name != "." && name != "..");
    while (levels.back().folder != folder) {
      levels.pop_back();
      require(!levels.empty());
    }
    require(levels.back().last < name);
    levels.back().last = name;
    if (file.inode.type == image::FileType::kDirectory) {
      levels.push_back({std::string(file.path), {}});
    } else if (!file.first_name.empty()) {
      require(first_names.contains(file.first_name));
    } else if (file.inode.links > 1) {
      first_names.emplace(file.path);
    }
    return {};
  });
  require(walked.has_value());
  std::uint64_t size = 0;
  const std::vector<std::string> command{"/bin/app"};
  const nitro::ByteSink sink = [&size](std::span<const std::byte> bytes) -> Result<void> {
    size += bytes.size();
    return {};
  };
  // A sparse file may be long; its zeros need not be made.
  const image::CpioWriter::Gap gap = [&size](std::uint64_t bytes) -> Result<void> {
    size += bytes;
    return {};
  };
  const image::CopyContent copy = [&layers](image::CpioWriter& writer, std::uint32_t layer, std::uint64_t offset,
                                            std::uint64_t bytes) {
    return writer.copy(layers[layer].part(offset, bytes));
  };
  image::CpioWriter writer(sink, gap);
  const auto written = image::write_customer_ramdisk(tree, copy, command, {}, writer);
  if (written) {
    require(size % kBlock == 0);
  } else {
    require(written.error().code() == ErrorCode::kEifBuilding);
  }
}

void read_archive(const std::string& archive) {
  const auto layer = extent_of(archive);
  image::Tree tree;
  tree.begin_layer();
  image::ExtentStream stream(layer);
  image::TarReader reader(stream);
  image::TarEntry entry;
  for (;;) {
    const auto more = reader.next(entry);
    if (!more) {
      require(more.error().code() == ErrorCode::kEifBuilding);
      return;
    }
    if (!*more) break;
    if (!tree.apply(entry)) return;
  }
  check(tree, {layer});
}

std::string name_from(std::string_view& input) {
  constexpr std::string_view kParts[] = {"a",    "b",   "c",   "..",    ".",           "", ".wh.a", ".wh..wh..opq",
                                         ".wh.", "etc", "dev", "hosts", ".wh..wh.plnk"};
  std::string name;
  while (!input.empty()) {
    const auto byte = static_cast<unsigned char>(input.front());
    input.remove_prefix(1);
    if (byte >= 0xc0) break;
    if (!name.empty()) name += '/';
    name += kParts[byte % std::size(kParts)];
  }
  return name;
}

void apply_entries(std::string_view input) {
  image::Tree tree;
  std::vector<image::Extent> layers(1, extent_of({}));
  tree.begin_layer();
  while (!input.empty()) {
    const auto kind = static_cast<unsigned char>(input.front());
    input.remove_prefix(1);
    if (kind % 9 == 8 && layers.size() < 8) {
      tree.begin_layer();
      layers.push_back(layers.front());
      continue;
    }
    image::TarEntry entry;
    entry.name = name_from(input);
    entry.mode = kind;
    if (kind % 9 == 7) {
      entry.kind = image::TarEntry::Kind::kHardLink;
      entry.link_target = name_from(input);
    } else {
      entry.type = static_cast<image::FileType>(kind % 9 % 6);
      if (entry.type == image::FileType::kSymlink) entry.link_target = (kind % 2 == 0 ? "/" : "") + name_from(input);
    }
    // A refused entry ends a real build; here the tree must still hold together.
    static_cast<void>(tree.apply(entry));
  }
  check(tree, layers);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  // char may alias any object.
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] % 2 == 0) {
    std::string archive(input);
    put_checksums_right(archive);
    read_archive(archive);
  } else {
    // More would only be slower: a few dozen entries reach every rule.
    apply_entries(input.substr(0, 160));
  }
  return 0;
}
