// SPDX-License-Identifier: Apache-2.0
#include "eif/image/archive.h"

#include <algorithm>
#include <filesystem>

#include "eif/image/decompress.h"
#include "eif/image/digest.h"
#include "eif/image/platform.h"
#include "eif/image/source.h"
#include "eif/image/tar.h"
#include "src/base/bytes.h"
#include "src/base/output_file.h"

namespace nitro::image {

namespace {

// The configuration of each must be read.
constexpr std::size_t kMaxPlatforms = 64;

// Normalizes names: "./a//b" and "/a/b" become "a/b". Only names are compared: nothing is ever unpacked under them.
std::string plain(std::string_view path) {
  auto text = std::filesystem::path(path).lexically_normal().generic_string();
  const auto start = text.find_first_not_of('/');
  return start == std::string::npos ? std::string() : text.substr(start);
}

Result<Extent> unpacked(const Extent& archive, Budget& budget) {
  NITRO_TRY(Fd scratch, make_scratch_file());
  std::uint64_t size = 0;
  UnpackedStream stream(archive, budget);
  for (;;) {
    NITRO_TRY(const auto bytes, stream.next());
    if (bytes.empty()) break;
    NITRO_CHECK(write_all(scratch.get(), bytes));
    size += bytes.size();
  }
  return Extent{std::make_shared<const Fd>(std::move(scratch)), 0, size};
}

bool is_member_of(const nlohmann::ordered_json& names, const std::string& canonical) {
  return std::any_of(names.begin(), names.end(), [&canonical](const nlohmann::ordered_json& name) {
    if (!name.is_string()) return false;
    const auto parsed = parse_image_name(name.get<std::string>());
    return parsed && parsed->canonical() == canonical;
  });
}

using Manifests = std::vector<const nlohmann::ordered_json*>;

// Returns the names that an archive gives to one of its images; an array.
const nlohmann::ordered_json& tags_of(const nlohmann::ordered_json& manifest) {
  static const auto none = nlohmann::ordered_json::array();
  const auto* tags = array_at(manifest, "RepoTags");
  return tags != nullptr ? *tags : none;
}

std::string list_of_names(const nlohmann::ordered_json& manifests) {
  std::string names;
  for (const auto& manifest : manifests) {
    for (const auto& tag : tags_of(manifest)) {
      if (!tag.is_string()) continue;
      if (names.size() > 500) return names + ", …";
      names += (names.empty() ? "" : ", ") + quote(tag.get<std::string>());
    }
  }
  return names.empty() ? "images without a name" : names;
}

// Returns those of `manifests`, which all have the same name, whose configuration is for the enclave's platform.
Result<Manifests> for_platform(const Manifests& manifests, const ArchiveIndex& index, const SourceOptions& options,
                               Budget& budget) {
  if (manifests.size() > kMaxPlatforms) {
    return fail(ErrorCode::kEifBuilding,
                "the archive holds one image more than " + std::to_string(kMaxPlatforms) + " times");
  }
  Manifests known;
  std::vector<Platform> platforms;
  for (const auto* manifest : manifests) {
    const auto name = text_at(*manifest, "Config");
    const Extent* file = index.find(name);
    if (file == nullptr) continue;
    NITRO_TRY(const auto config, read_document(*file, {}, "the configuration " + quote(name), budget));
    auto platform = platform_in(config);
    if (!platform) continue;
    known.push_back(manifest);
    platforms.push_back(*std::move(platform));
  }
  Manifests chosen;
  for (const auto i : nearest(platforms, options.architecture)) chosen.push_back(known[i]);
  return chosen;
}

Result<const nlohmann::ordered_json*> choose_by_number(const nlohmann::ordered_json& manifests,
                                                       const std::string& digits) {
  const bool number =
      !digits.empty() && digits.size() < 7 && digits.find_first_not_of("0123456789") == std::string::npos;
  if (!number || std::stoul(digits) >= manifests.size()) {
    return fail(ErrorCode::kDockerImagePull, "the archive has no image number " + quote(digits) + "; it holds " +
                                                 std::to_string(manifests.size()) + ", counted from 0");
  }
  return &manifests.at(std::stoul(digits));
}

// Returns the manifest of the image `wanted`: a name, "@" and the number of an image, or empty if there is only one
// image. An archive may hold an image several times, for several platforms.
Result<const nlohmann::ordered_json*> choose(const nlohmann::ordered_json& manifests, const std::string& wanted,
                                             const ArchiveIndex& index, const SourceOptions& options, Budget& budget) {
  if (wanted.starts_with('@')) return choose_by_number(manifests, wanted.substr(1));
  std::string canonical;
  if (!wanted.empty()) {
    NITRO_TRY(const auto name, parse_image_name(wanted));
    canonical = name.canonical();
  }
  Manifests matching;
  for (const auto& manifest : manifests) {
    if (wanted.empty() || is_member_of(tags_of(manifest), canonical)) matching.push_back(&manifest);
  }
  if (matching.empty()) {
    return fail(ErrorCode::kDockerImagePull,
                "the archive has no image " + quote(wanted) + "; it holds " + list_of_names(manifests));
  }
  if (matching.size() == 1) return matching.front();
  const bool one_image = std::all_of(matching.begin(), matching.end(), [&matching](const auto* manifest) {
    return tags_of(*manifest) == tags_of(*matching.front());
  });
  if (wanted.empty() && !one_image) {
    return fail(ErrorCode::kDockerImagePull, "the archive holds " + std::to_string(manifests.size()) + " images (" +
                                                 list_of_names(manifests) +
                                                 "); append ':' and the name of one to the path");
  }
  NITRO_TRY(const auto chosen, for_platform(matching, index, options, budget));
  if (chosen.size() == 1) return chosen.front();
  return fail(ErrorCode::kDockerImagePull, "the archive holds " + std::to_string(matching.size()) +
                                               " images of one name, " + std::to_string(chosen.size()) +
                                               " of them for linux/" + options.architecture +
                                               "; append \":@\" and the number of one to the path, counted from 0");
}

// Returns the digest in the name of a file in the archive, if any: engines name configurations, and newer ones all
// blobs, by their digest.
std::string digest_in_name(std::string_view path) {
  auto base = path.substr(path.rfind('/') + 1);
  if (base.ends_with(".json")) base.remove_suffix(5);
  auto digest = "sha256:" + std::string(base);
  return is_sha256(digest) ? digest : std::string();
}

void put(HeldMap<HeldString, HeldString>& links, std::string_view name, std::string_view target) {
  links.insert_or_assign(HeldString(name, links.get_allocator()), HeldString(target, links.get_allocator()));
}

}  // namespace

Result<void> ArchiveIndex::add(const TarEntry& entry, const Extent& archive) {
  if (files_.size() + links_.size() >= kMaxFiles) {
    return fail(ErrorCode::kEifBuilding, "the archive holds more than " + std::to_string(kMaxFiles) + " files");
  }
  const auto name = plain(entry.name);
  if (entry.kind == TarEntry::Kind::kHardLink) {
    put(links_, name, plain(entry.link_target));
  } else if (entry.kind == TarEntry::Kind::kFile && entry.type == FileType::kSymlink) {
    const auto slash = name.rfind('/');
    put(links_, name, plain((slash == std::string::npos ? "" : name.substr(0, slash + 1)) + entry.link_target));
  } else if (entry.kind == TarEntry::Kind::kFile && entry.type == FileType::kRegular && !entry.regions) {
    files_.insert_or_assign(HeldString(name, files_.get_allocator()),
                            archive.part(entry.data_offset_bytes, entry.size_bytes));
  }
  return {};
}

Result<ArchiveIndex> ArchiveIndex::read(Extent archive, Budget& budget) {
  NITRO_TRY(const auto compression, detect_compression(archive));
  if (compression != Compression::kNone) {
    NITRO_TRY(archive, unpacked(archive, budget));
  }
  ArchiveIndex index(budget);
  ExtentStream stream(archive);
  TarReader reader(stream, budget);
  TarEntry entry;
  for (;;) {
    NITRO_TRY(const bool more, reader.next(entry));
    if (!more) break;
    NITRO_CHECK(Budget::run([&] { return index.add(entry, archive); }));
  }
  return index;
}

const Extent* ArchiveIndex::find(std::string_view path) const {
  const auto plain_path = plain(path);
  std::string_view name = plain_path;
  for (int hops = 0; hops < 8; ++hops) {
    if (const auto file = files_.find(name); file != files_.end()) return &file->second;
    const auto link = links_.find(name);
    if (link == links_.end()) return nullptr;
    name = link->second;
  }
  return nullptr;
}

Result<ImageSource> read_docker_archive(Extent archive, const std::string& wanted_name, Budget& budget,
                                        const SourceOptions& options) {
  NITRO_TRY(const auto index, ArchiveIndex::read(std::move(archive), budget));
  const Extent* manifest_file = index.find("manifest.json");
  if (manifest_file == nullptr) {
    return fail(ErrorCode::kEifBuilding,
                index.find("index.json") != nullptr
                    ? "it has no manifest.json but an index.json: it is an OCI archive, for which the prefix is "
                      "oci-archive:"
                    : "it has no manifest.json; write the archive with \"docker save\" or "
                      "\"skopeo copy … docker-archive:…\"");
  }
  NITRO_TRY(const auto document, read_document(*manifest_file, {}, "manifest.json", budget));
  const nlohmann::ordered_json& manifests = document;
  const bool well_formed = manifests.is_array() && !manifests.empty() &&
                           std::all_of(manifests.begin(), manifests.end(), [](const auto& manifest) {
                             const auto* layers = value_at(manifest, "Layers");
                             return !text_at(manifest, "Config").empty() && (layers == nullptr || layers->is_array());
                           });
  if (!well_formed) return fail(ErrorCode::kEifBuilding, "manifest.json does not describe images");
  NITRO_TRY(const auto* manifest, choose(manifests, wanted_name, index, options, budget));

  ImageSource source;
  const auto config_name = text_at(*manifest, "Config");
  const Extent* config_file = index.find(config_name);
  if (config_file == nullptr) {
    return fail(ErrorCode::kEifBuilding,
                "the configuration " + quote(config_name) + " that manifest.json names is missing");
  }
  auto text = config_file->text(kMaxDocumentBytes);
  if (!text) return fail_within("the configuration " + quote(config_name), std::move(text).error());
  source.id = sha256(as_bytes(*text));
  if (const auto promised = digest_in_name(config_name); !promised.empty() && promised != source.id) {
    return fail(ErrorCode::kEifBuilding, "the configuration " + quote(config_name) + " has the digest " + source.id +
                                             " instead of the one in its name; the archive is damaged");
  }
  NITRO_TRY(source.config, parse_document(*text, "the configuration " + quote(config_name), budget));

  if (const auto* layers = array_at(*manifest, "Layers"); layers != nullptr) {
    for (const auto& layer : *layers) {
      const auto layer_name = layer.is_string() ? layer.get<std::string>() : std::string();
      const Extent* file = index.find(layer_name);
      if (file == nullptr) {
        return fail(ErrorCode::kEifBuilding, "the layer " + quote(layer_name) + " that manifest.json names is missing");
      }
      // Unlike that of the configuration, the names of layers in older engines are digests of something else; the
      // configuration has the digests of the layers.
      source.layers.push_back({*file, {}, quote(layer_name)});
    }
  }
  if (const auto* tags = array_at(*manifest, "RepoTags"); tags != nullptr) {
    for (const auto& tag : *tags) {
      if (tag.is_string()) source.repository_tags.push_back(tag.get<std::string>());
    }
  }
  return source;
}

Result<ImageSource> open_docker_archive(const Reference& reference, Budget& budget, const SourceOptions& options) {
  NITRO_TRY(auto file, open_extent(reference.path));
  auto source = read_docker_archive(std::move(file), reference.name, budget, options);
  if (!source) return fail_within("docker archive " + quote(reference.path), std::move(source).error());
  source->name = reference.path;
  return source;
}

}  // namespace nitro::image
