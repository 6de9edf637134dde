// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "eif/image/budget.h"
#include "eif/image/digest.h"
#include "eif/image/extent.h"
#include "eif/image/image.h"
#include "eif/image/ramdisk.h"
#include "src/base/bytes.h"
#include "src/base/output_file.h"

namespace nitro::image {

/// A member of a tar archive to be made, with the type flag of the format.
struct Member {
  std::string name;
  std::string content = {};
  char type = '0';
  std::string link = {};
  unsigned mode = 0644;
  long mtime = 1700000000;
  unsigned uid = 0;
  unsigned gid = 0;
  unsigned device_major = 0;
  unsigned device_minor = 0;
};

inline Member folder(std::string name, unsigned mode = 0755) {
  return {.name = std::move(name), .type = '5', .mode = mode};
}
inline Member symlink(std::string name, std::string target) {
  return {.name = std::move(name), .type = '2', .link = std::move(target)};
}
inline Member hard_link(std::string name, std::string target) {
  return {.name = std::move(name), .type = '1', .link = std::move(target)};
}

inline void put_number(std::string& block, std::size_t at, std::size_t size, unsigned long value) {
  char digits[24];
  std::snprintf(digits, sizeof digits, "%0*lo", static_cast<int>(size - 1), value);
  block.replace(at, size - 1, digits);
}

/// A budget for tests that are about something else.
inline Budget& plenty() {
  static Budget budget;
  return budget;
}

/// Puts the checksum of a header right after a change to it.
inline void sign_header(std::string& block) {
  block.replace(148, 8, "        ");
  unsigned long sum = 0;
  for (std::size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(block[i]);
  put_number(block, 148, 7, sum);
  block[154] = '\0';
}

/// One member in ustar format, header and content with padding.
inline std::string tar_member(const Member& member) {
  std::string block(512, '\0');
  block.replace(0, std::min<std::size_t>(100, member.name.size()), member.name.substr(0, 100));
  put_number(block, 100, 8, member.mode);
  put_number(block, 108, 8, member.uid);
  put_number(block, 116, 8, member.gid);
  put_number(block, 124, 12, member.content.size());
  put_number(block, 136, 12, static_cast<unsigned long>(member.mtime));
  block[156] = member.type;
  block.replace(157, member.link.size(), member.link);
  block.replace(257, 8, std::string("ustar\00000", 8));
  put_number(block, 329, 8, member.device_major);
  put_number(block, 337, 8, member.device_minor);
  sign_header(block);
  std::string content = member.content;
  content.resize((content.size() + 511) / 512 * 512);
  return block + content;
}

/// The member that carries pax records for the one behind it.
inline std::string pax_member(const std::vector<std::pair<std::string, std::string>>& records) {
  std::string text;
  for (const auto& [key, value] : records) {
    const auto rest = " " + key + "=" + value + "\n";
    auto size = rest.size() + 1;
    while (std::to_string(size).size() + rest.size() != size) ++size;
    text += std::to_string(size) + rest;
  }
  return tar_member({.name = "pax", .content = text, .type = 'x'});
}

inline std::string tar(const std::vector<Member>& members) {
  std::string archive;
  for (const auto& member : members) archive += tar_member(member);
  return archive + std::string(1024, '\0');
}

inline Extent extent_of(const std::string& bytes) {
  auto scratch = make_scratch_file();
  if (!scratch || !write_all(scratch->get(), as_bytes(bytes))) throw std::runtime_error("no scratch file for the test");
  return {std::make_shared<const Fd>(std::move(*scratch)), 0, bytes.size()};
}

/// What a docker archive is made of; tests change a part of it to see it refused.
struct ArchiveParts {
  std::vector<std::string> layers;  // tar archives, perhaps compressed
  std::vector<std::string> diff_ids;
  nlohmann::ordered_json config = {{"architecture", "amd64"}, {"os", "linux"}, {"config", {{"Cmd", {"/bin/app"}}}}};
  std::vector<std::string> tags = {"test/image:1"};
};

inline ArchiveParts parts_of(const std::vector<std::string>& layers) {
  ArchiveParts parts;
  parts.layers = layers;
  for (const auto& layer : layers) parts.diff_ids.push_back(sha256(as_bytes(layer)));
  return parts;
}

inline std::string docker_archive(ArchiveParts parts) {
  parts.config["rootfs"] = {{"type", "layers"}, {"diff_ids", parts.diff_ids}};
  const auto config = parts.config.dump();
  const auto config_name = sha256(as_bytes(config)).substr(7) + ".json";
  std::vector<Member> members{{.name = config_name, .content = config}};
  nlohmann::ordered_json names = nlohmann::ordered_json::array();
  for (std::size_t i = 0; i < parts.layers.size(); ++i) {
    names.push_back(std::to_string(i) + "/layer.tar");
    members.push_back({.name = names.back().get<std::string>(), .content = parts.layers[i]});
  }
  const nlohmann::ordered_json manifest =
      nlohmann::ordered_json::array({{{"Config", config_name}, {"RepoTags", parts.tags}, {"Layers", names}}});
  members.push_back({.name = "manifest.json", .content = manifest.dump()});
  return tar(members);
}

/// Everything a producer gives.
inline Result<std::string> collect(const std::function<Result<void>(const ByteSink&)>& produce) {
  std::string all;
  NITRO_CHECK(produce([&all](std::span<const std::byte> bytes) -> Result<void> {
    all += as_text(bytes);
    return {};
  }));
  return all;
}

/// Contents of uncompressed layers.
inline CopyContent content_of(std::vector<Extent> layers) {
  return [layers = std::move(layers)](CpioWriter& writer, std::uint32_t layer, std::uint64_t offset,
                                      std::uint64_t size) { return writer.copy(layers[layer].part(offset, size)); };
}

/// The user's ramdisk of an image that was opened.
inline Result<std::string> ramdisk_of(Result<ImageSource> source) {
  NITRO_TRY(auto opened, std::move(source));
  NITRO_TRY(const auto image, Image::load(std::move(opened), plenty()));
  NITRO_TRY(const Fd file, make_scratch_file());
  NITRO_TRY(const auto size, image.place_ramdisk(file.get(), 0, nullptr));
  std::string placed(size, '\0');
  NITRO_CHECK(pread_exact(file.get(), std::as_writable_bytes(std::span(placed)), 0));
  if (image.is_compressed()) return placed;
  NITRO_TRY(auto streamed, collect([&image](const ByteSink& sink) { return image.write_ramdisk(sink); }));
  if (streamed != placed) return fail(ErrorCode::kUnspecified, "the two ways to write the ramdisk differ");
  return streamed;
}

using Lines = std::vector<std::string>;

/// For EXPECT_PRED2, which prints both.
inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

/// Comparing megabytes with EXPECT_EQ would print them.
inline void expect_same_bytes(const std::string& actual, const std::string& expected) {
  const auto difference = std::mismatch(actual.begin(), actual.end(), expected.begin(), expected.end());
  EXPECT_EQ(difference.first - actual.begin(), static_cast<std::ptrdiff_t>(actual.size())) << "first byte that differs";
  EXPECT_EQ(actual.size(), expected.size());
}

}  // namespace nitro::image
