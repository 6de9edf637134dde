// SPDX-License-Identifier: Apache-2.0
// Any texts as the documents of an image: manifests, indexes and configurations must end with a source or an error of
// the input.
//
// The first byte chooses the kind, the rest are texts with zero bytes between them. "@3" in a text stands for the
// digest of text 3, or no change would get past the check of digests; a text may name later ones only.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "eif/image/digest.h"
#include "eif/image/image.h"
#include "eif/image/oci.h"
#include "eif/image/token.h"
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

constexpr std::size_t kMaxTexts = 8;

std::vector<std::string> texts_of(std::string_view input) {
  std::vector<std::string> texts;
  while (texts.size() < kMaxTexts) {
    const auto end = input.find('\0');
    texts.emplace_back(input.substr(0, end));
    if (end == std::string_view::npos) break;
    input.remove_prefix(end + 1);
  }
  std::vector<std::string> digests(texts.size());
  for (std::size_t i = texts.size(); i-- > 0;) {
    for (std::size_t other = i + 1; other < texts.size(); ++other) {
      const auto name = "@" + std::to_string(other);
      for (auto at = texts[i].find(name); at != std::string::npos; at = texts[i].find(name, at)) {
        texts[i].replace(at, name.size(), digests[other]);
      }
    }
    digests[i] = image::sha256(nitro::as_bytes(texts[i]));
  }
  return texts;
}

void check(const Result<image::ImageSource>& source) {
  if (!source) {
    require(source.error().code() == ErrorCode::kEifBuilding || source.error().code() == ErrorCode::kDockerImagePull);
    return;
  }
  require(image::is_sha256(source->id));
  const auto config = image::parse_config(source->config);
  if (!config) {
    require(config.error().code() == ErrorCode::kEifBuilding);
    return;
  }
  for (const auto& digest : config->layer_digests) require(image::is_sha256(digest));
}

void oci(const std::vector<std::string>& texts) {
  const image::BlobStore store = [&texts](const image::Descriptor& blob) -> Result<image::Extent> {
    for (const auto& text : texts) {
      if (image::sha256(nitro::as_bytes(text)) == blob.digest) return extent_of(text);
    }
    return nitro::fail(ErrorCode::kEifBuilding, "there is no such blob");
  };
  image::Budget budget;
  auto document = image::parse_document(texts.front(), "the document", budget);
  if (!document) return;
  check(image::read_oci_image(std::move(*document), store, {"amd64"}, budget));
}

// A member of a ustar archive.
void add_member(std::string& archive, const std::string& name, const std::string& content) {
  const auto at = archive.size();
  archive.resize(at + nitro::fuzz::kTarBlock);
  archive.replace(at, name.size(), name);
  char number[16];
  std::snprintf(number, sizeof number, "%011o", static_cast<unsigned>(content.size()));
  archive.replace(at + 124, 11, number);
  archive.replace(at + 257, 8, std::string("ustar\00000", 8));
  nitro::fuzz::put_checksum_right(archive, at);
  archive += content;
  nitro::fuzz::fill_block(archive);
}

void docker(const std::vector<std::string>& texts, std::string_view wanted) {
  std::string archive;
  add_member(archive, "manifest.json", texts.front());
  for (std::size_t i = 1; i < texts.size(); ++i) {
    add_member(archive, image::sha256(nitro::as_bytes(texts[i])).substr(7) + ".json", texts[i]);
    add_member(archive, std::to_string(i), texts[i]);
  }
  image::Budget budget;
  check(image::read_docker_archive(extent_of(archive), std::string(wanted), budget));
}

void names(std::string_view text) {
  if (const auto name = image::parse_image_name(text); name) {
    const auto again = image::parse_image_name(name->canonical());
    require(again && again->canonical() == name->canonical());
  }
  static_cast<void>(image::parse_reference(text));
  static_cast<void>(image::parse_challenges(text));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  // char may alias any object.
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 4) {
    case 0:
      oci(texts_of(input));
      break;
    case 1:
      docker(texts_of(input), "");
      break;
    case 2:
      docker(texts_of(input), "@0");
      break;
    default:
      names(input);
      break;
  }
  return 0;
}
