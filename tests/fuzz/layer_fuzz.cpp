// SPDX-License-Identifier: Apache-2.0
// Any bytes as layers: reading, merging and writing the ramdisk must end with an answer or an error of the input.
//
// The first byte chooses. Even: the rest is a tar archive, whose checksums are put right first, or no change would get
// past them; it also has to give the same ramdisk, or the same error, as it is and in the forms of gzip and zstd. Odd:
// the rest are entries in a short form (kind, name from a small alphabet, link target), which get to the rules of the
// tree at once.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "eif/image/decompress.h"
#include "eif/image/digest.h"
#include "eif/image/image.h"
#include "eif/image/ramdisk.h"
#include "src/base/bytes.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/image_extent.h"
#include "tests/fuzz/tar_blocks.h"

using nitro::ErrorCode;
using nitro::Result;
namespace image = nitro::image;

namespace {

using nitro::fuzz::extent_of;
using nitro::fuzz::require;

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
    require(size % nitro::fuzz::kTarBlock == 0);
  } else {
    require(written.error().code() == ErrorCode::kEifBuilding);
  }
}

void read_archive(const std::string& archive) {
  const auto layer = extent_of(archive);
  image::Budget budget;
  image::Tree tree(budget);
  tree.begin_layer();
  image::ExtentStream stream(layer);
  image::TarReader reader(stream, budget);
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

std::string number(std::uint64_t value, std::size_t size) {
  std::string bytes;
  for (std::size_t i = 0; i < size; ++i) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

// Pieces of at most `limit` bytes, the first of which is there even when there are none.
std::vector<std::string_view> pieces_of(std::string_view bytes, std::size_t limit) {
  std::vector<std::string_view> pieces;
  do {
    pieces.push_back(bytes.substr(0, limit));
    bytes.remove_prefix(pieces.back().size());
  } while (!bytes.empty());
  return pieces;
}

// The bytes as gzip stores what it cannot make smaller (RFC 1952, RFC 1951 section 3.2.4).
std::string stored_gzip(std::string_view bytes) {
  std::uint32_t sum = ~0U;
  for (const char c : bytes) {
    sum ^= static_cast<unsigned char>(c);
    for (int i = 0; i < 8; ++i) sum = (sum >> 1) ^ ((sum & 1U) != 0 ? 0xedb88320U : 0U);
  }
  std::string packed("\x1f\x8b\x08\0\0\0\0\0\0\x03", 10);
  const auto pieces = pieces_of(bytes, 999);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const auto size = pieces[i].size();
    packed += static_cast<char>(i + 1 == pieces.size() ? 1 : 0);
    packed += number(size, 2) + number(~size, 2);
    packed += pieces[i];
  }
  return packed + number(~sum, 4) + number(bytes.size(), 4);
}

// The same of zstd, behind a frame that is passed over (RFC 8878, sections 3.1.1 and 3.1.2).
std::string stored_zstd(std::string_view bytes) {
  std::string packed("\x50\x2a\x4d\x18\x01\0\0\0s\x28\xb5\x2f\xfd\0\x60", 15);
  const auto pieces = pieces_of(bytes, 999);
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    packed += number((pieces[i].size() << 3) | (i + 1 == pieces.size() ? 1U : 0U), 3);
    packed += pieces[i];
  }
  return packed;
}

// The ramdisk of an image with this layer, or the error.
std::string outcome(const std::string& archive, const std::string& stored) {
  // What is longer has holes, which are not worth the time.
  constexpr std::uint64_t kCompared = std::uint64_t{1} << 20;
  image::Budget budget;
  const auto config =
      R"({"config":{"Cmd":["x"]},"rootfs":{"diff_ids":[")" + image::sha256(nitro::as_bytes(archive)) + "\"]}}";
  image::ImageSource source;
  auto document = image::parse_document(config, "the configuration", budget);
  require(document.has_value());
  source.config = std::move(*document);
  source.layers.push_back({extent_of(stored), {}, "layer"});
  const auto loaded = image::Image::load(std::move(source), budget);
  if (!loaded) return loaded.error().message();
  const auto file = nitro::fuzz::file_of({});
  const auto size = loaded->place_ramdisk(file.get(), 0, nullptr);
  if (!size) return size.error().message();
  std::string ramdisk(static_cast<std::size_t>(std::min(*size, kCompared)), '\0');
  require(nitro::pread_exact(file.get(), std::as_writable_bytes(std::span(ramdisk)), 0).has_value());
  return std::to_string(*size) + ":" + ramdisk;
}

void compare_forms(const std::string& archive) {
  // What looks compressed is unpacked.
  if (image::detect_compression(nitro::as_bytes(archive)) != image::Compression::kNone) return;
  const auto expected = outcome(archive, archive);
  require(outcome(archive, stored_gzip(archive)) == expected);
  require(outcome(archive, stored_zstd(archive)) == expected);
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
  image::Budget budget;
  image::Tree tree(budget);
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
    nitro::fuzz::put_checksums_right(archive);
    read_archive(archive);
    compare_forms(archive);
  } else {
    // More would only be slower: a few dozen entries reach every rule.
    apply_entries(input.substr(0, 160));
  }
  return 0;
}
