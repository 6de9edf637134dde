// SPDX-License-Identifier: Apache-2.0
#include "eif/image/oci.h"

#include "eif/image/archive.h"
#include "eif/image/digest.h"
#include "nitro/bytes.h"

namespace nitro::image {

namespace {

// Image specification, "Annotations"; containerd writes the full name where the specification has a short one.
constexpr const char* kRefName = "org.opencontainers.image.ref.name";
constexpr const char* kContainerdName = "io.containerd.image.name";
// An index in an index in an index: nobody needs more.
constexpr int kMaxIndexLevels = 4;

using Json = nlohmann::ordered_json;

std::string annotation(const Json& descriptor, const char* key) {
  const auto* annotations = value_at(descriptor, "annotations");
  return annotations == nullptr ? std::string() : text_at(*annotations, key);
}

// "linux/arm64"; empty when the descriptor does not say.
std::string platform_of(const Json& descriptor) {
  const auto* platform = value_at(descriptor, "platform");
  if (platform == nullptr) return {};
  return text_at(*platform, "os") + "/" + text_at(*platform, "architecture");
}

bool has_name(const Json& descriptor, const std::string& wanted) {
  if (annotation(descriptor, kRefName) == wanted) return true;
  const auto full = annotation(descriptor, kContainerdName);
  if (full.empty()) return false;
  const auto a = parse_image_name(full);
  const auto b = parse_image_name(wanted);
  return a && b && a->canonical() == b->canonical();
}

std::string list_of_names(const Json& manifests) {
  std::string names;
  for (const auto& manifest : manifests) {
    auto name = annotation(manifest, kRefName);
    if (name.empty()) name = annotation(manifest, kContainerdName);
    if (name.empty()) continue;
    if (names.size() > 500) return names + ", …";
    names += (names.empty() ? "" : ", ") + quote(name);
  }
  return names.empty() ? "images without a name" : names;
}

// The entry of index.json for the image `wanted`.
Result<const Json*> choose(const Json& manifests, const std::string& wanted) {
  if (wanted.empty()) {
    if (manifests.size() == 1) return &manifests.front();
    return fail(ErrorCode::kDockerImagePull, "it holds " + std::to_string(manifests.size()) + " images (" +
                                                 list_of_names(manifests) +
                                                 "); append ':' and the name of one to the path");
  }
  for (const auto& manifest : manifests) {
    if (has_name(manifest, wanted)) return &manifest;
  }
  return fail(ErrorCode::kDockerImagePull,
              "it has no image " + quote(wanted) + "; it holds " + list_of_names(manifests));
}

Result<Json> read_blob_document(const Descriptor& descriptor, const BlobStore& store, const std::string& what) {
  auto blob = store(descriptor);
  if (!blob) return fail_within(what, std::move(blob).error());
  return read_document(*blob, descriptor.digest, what);
}

Result<ImageSource> read_layout(const std::function<Result<Extent>(const std::string& path)>& file,
                                const std::string& wanted, const SourceOptions& options) {
  NITRO_TRY(const auto index_file, file("index.json"));
  NITRO_TRY(const auto index, read_document(index_file, {}, "index.json"));
  const Json* manifests = array_at(index, "manifests");
  if (manifests == nullptr || manifests->empty()) return fail(ErrorCode::kEifBuilding, "index.json names no images");
  NITRO_TRY(const auto* entry, choose(*manifests, wanted));
  NITRO_TRY(const auto descriptor, parse_descriptor(*entry, "index.json"));

  const BlobStore store = [&file](const Descriptor& blob) -> Result<Extent> {
    auto content = file("blobs/sha256/" + blob.digest.substr(blob.digest.find(':') + 1));
    if (!content) return fail_within("blob " + blob.digest, std::move(content).error());
    if (content->size_bytes != blob.size_bytes) {
      return fail(ErrorCode::kEifBuilding, "blob " + blob.digest + " has " + std::to_string(content->size_bytes) +
                                               " bytes instead of " + std::to_string(blob.size_bytes) +
                                               "; the image is damaged");
    }
    return content;
  };
  NITRO_TRY(auto document, read_blob_document(descriptor, store, "the manifest"));
  NITRO_TRY(auto source, read_oci_image(std::move(document), store, options));
  auto name = annotation(*entry, kContainerdName);
  if (name.empty()) name = annotation(*entry, kRefName);
  // The short form is a bare tag, which names nothing outside of its layout.
  if (name.find_first_of(":/") != std::string::npos) source.repository_tags.push_back(name);
  return source;
}

}  // namespace

Result<Descriptor> parse_descriptor(const Json& json, std::string_view what) {
  Descriptor descriptor{text_at(json, "mediaType"), text_at(json, "digest"), 0};
  const auto* size = value_at(json, "size");
  if (size == nullptr || !size->is_number_unsigned() || descriptor.digest.empty()) {
    return fail(ErrorCode::kEifBuilding, std::string(what) + " has an entry without digest and size");
  }
  descriptor.size_bytes = size->get<std::uint64_t>();
  if (!is_sha256(descriptor.digest)) {
    return fail(ErrorCode::kEifBuilding, std::string(what) + " has the digest " + quote(descriptor.digest) +
                                             "; only sha256: and 64 hexadecimal digits can be verified");
  }
  return descriptor;
}

bool is_index(const Json& document) {
  return array_at(document, "manifests") != nullptr;
}

Result<Descriptor> choose_platform(const Json& index, const std::string& architecture) {
  const Json* manifests = array_at(index, "manifests");
  if (manifests == nullptr) return fail(ErrorCode::kEifBuilding, "the index names no manifests");
  const auto wanted = "linux/" + architecture;
  std::string others;
  for (const auto& manifest : *manifests) {
    const auto platform = platform_of(manifest);
    if (platform == wanted || (platform.empty() && manifests->size() == 1))
      return parse_descriptor(manifest, "the index");
    // Builders store attestations beside images under this platform.
    if (platform.empty() || platform == "unknown/unknown" || others.size() > 500) continue;
    others += (others.empty() ? "" : ", ") + quote(platform);
  }
  return fail(ErrorCode::kDockerImagePull,
              "the image is not made for " + wanted + ", only for " + (others.empty() ? "no platform at all" : others));
}

Result<ImageSource> read_oci_image(Json document, const BlobStore& store, const SourceOptions& options) {
  for (int level = 0; is_index(document); ++level) {
    if (level == kMaxIndexLevels) return fail(ErrorCode::kEifBuilding, "the image is an index of indexes without end");
    NITRO_TRY(const auto chosen, choose_platform(document, options.architecture));
    NITRO_TRY(document, read_blob_document(chosen, store, "the manifest"));
  }
  const Json* layers = array_at(document, "layers");
  const Json* config_entry = value_at(document, "config");
  if (layers == nullptr || config_entry == nullptr) {
    return fail(ErrorCode::kEifBuilding,
                "the manifest is of a kind that is not supported; a config and layers were expected");
  }
  NITRO_TRY(const auto config, parse_descriptor(*config_entry, "the manifest"));
  ImageSource source;
  source.id = config.digest;
  NITRO_TRY(source.config, read_blob_document(config, store, "the configuration"));
  for (const auto& layer : *layers) {
    NITRO_TRY(const auto descriptor, parse_descriptor(layer, "the manifest"));
    NITRO_TRY(auto content, store(descriptor));
    source.layers.push_back({std::move(content), descriptor.digest, descriptor.digest});
  }
  return source;
}

Result<ImageSource> open_oci_folder(const Reference& reference, const SourceOptions& options) {
  auto source = read_layout([&reference](const std::string& path) { return open_extent(reference.path + "/" + path); },
                            reference.name, options);
  if (!source) return fail_within("OCI layout " + quote(reference.path), std::move(source).error());
  source->name = reference.path;
  return source;
}

Result<ImageSource> open_oci_archive(const Reference& reference, const SourceOptions& options) {
  NITRO_TRY(auto archive, open_extent(reference.path));
  auto source = [&]() -> Result<ImageSource> {
    NITRO_TRY(const auto index, ArchiveIndex::read(std::move(archive)));
    const auto file = [&index](const std::string& path) -> Result<Extent> {
      if (const Extent* found = index.find(path)) return *found;
      const bool docker = path == "index.json" && index.find("manifest.json") != nullptr;
      return fail(ErrorCode::kEifBuilding,
                  "the archive has no " + quote(path) +
                      (docker ? "; it is a docker archive, for which the prefix is docker-archive:" : ""));
    };
    return read_layout(file, reference.name, options);
  }();
  if (!source) return fail_within("OCI archive " + quote(reference.path), std::move(source).error());
  source->name = reference.path;
  return source;
}

}  // namespace nitro::image
