// SPDX-License-Identifier: Apache-2.0
#include "eif/image/oci.h"

#include <algorithm>

#include "eif/image/archive.h"
#include "eif/image/decompress.h"
#include "eif/image/digest.h"
#include "eif/image/index.h"
#include "src/base/bytes.h"

namespace nitro::image {

namespace {

// Image specification, "Annotations"; containerd writes the full name where the specification has a short one.
constexpr const char* kRefName = "org.opencontainers.image.ref.name";
constexpr const char* kContainerdName = "io.containerd.image.name";

using Json = nlohmann::ordered_json;

bool has_name(const Json& descriptor, const std::string& wanted) {
  if (annotation(descriptor, kRefName) == wanted) return true;
  const auto full = annotation(descriptor, kContainerdName);
  if (full.empty()) return false;
  const auto a = parse_image_name(full);
  const auto b = parse_image_name(wanted);
  return a && b && a->canonical() == b->canonical();
}

// Returns the name of an entry of index.json, the full one if there is one, or an empty string.
std::string name_of(const Json& entry) {
  auto name = annotation(entry, kContainerdName);
  return name.empty() ? annotation(entry, kRefName) : name;
}

std::string list_of_names(const IndexSearch::Entries& entries) {
  std::string names;
  for (const auto* entry : entries) {
    const auto name = name_of(*entry);
    if (name.empty()) continue;
    if (names.size() > 500) return names + ", …";
    names += (names.empty() ? "" : ", ") + quote(name);
  }
  return names.empty() ? "images without a name" : names;
}

std::string list_of_digests(const IndexSearch::Entries& entries) {
  std::string digests;
  for (const auto* entry : entries) {
    if (digests.size() > 500) return digests + ", …";
    digests += (digests.empty() ? "" : ", ") + quote(text_at(*entry, "digest"));
  }
  return digests;
}

// Whether `of` is the same for all entries; an entry without a value agrees with any.
bool agree(const IndexSearch::Entries& entries, const std::function<std::string(const Json& entry)>& of) {
  std::string first;
  return std::all_of(entries.begin(), entries.end(), [&](const Json* entry) {
    const auto text = of(*entry);
    if (first.empty()) first = text;
    return text.empty() || text == first;
  });
}

// Returns the entry of index.json for the image `wanted`: the only one, or, if a layout lists one per platform, the one
// for the enclave.
Result<const Json*> choose(const Json& manifests, const std::string& wanted, IndexSearch& search) {
  const auto all = image_entries(manifests);
  auto entries = all;
  if (!wanted.empty()) std::erase_if(entries, [&wanted](const Json* entry) { return !has_name(*entry, wanted); });
  if (entries.empty()) {
    return fail(ErrorCode::kDockerImagePull,
                "it has no image " + (wanted.empty() ? "at all" : quote(wanted) + "; it holds " + list_of_names(all)));
  }
  if (entries.size() == 1) return entries.front();
  if (wanted.empty() && !agree(entries, name_of)) {
    return fail(ErrorCode::kDockerImagePull, "it holds " + std::to_string(entries.size()) + " images (" +
                                                 list_of_names(entries) +
                                                 "); append ':' and the name of one to the path");
  }
  NITRO_TRY(const auto nearest, search.nearest(entries));
  if (!agree(nearest, [](const Json& entry) { return text_at(entry, "digest"); })) {
    return fail(ErrorCode::kDockerImagePull, "it holds " + std::to_string(nearest.size()) +
                                                 " images for the same platform (" + list_of_digests(nearest) +
                                                 "); give each a name of its own and append ':' and one to the path");
  }
  return nearest.front();
}

Result<ImageSource> read_layout(const std::function<Result<Extent>(const std::string& path)>& file,
                                const std::string& wanted, const SourceOptions& options, Budget& budget) {
  NITRO_TRY(const auto index_file, file("index.json"));
  NITRO_TRY(const auto index, read_document(index_file, {}, "index.json", budget));
  const Json* manifests = array_at(index, "manifests");
  if (manifests == nullptr || manifests->empty()) return fail(ErrorCode::kEifBuilding, "index.json names no images");
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
  IndexSearch search(store, options.architecture, budget);
  NITRO_TRY(const auto* entry, choose(*manifests, wanted, search));
  NITRO_TRY(const auto descriptor, parse_descriptor(*entry, "index.json"));
  NITRO_TRY(auto document, read_blob_document(descriptor, store, "the manifest", budget));
  NITRO_TRY(auto source, read_oci_image(std::move(document), store, options, budget));
  const auto name = name_of(*entry);
  // The short form is a bare tag, which has no meaning outside its layout.
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

Result<Document> read_blob_document(const Descriptor& descriptor, const BlobStore& store, const std::string& what,
                                    Budget& budget) {
  NITRO_CHECK(check_document_size(descriptor.size_bytes, what));
  auto blob = store(descriptor);
  if (!blob) return fail_within(what, std::move(blob).error());
  return read_document(*blob, descriptor.digest, what, budget);
}

Result<ImageSource> read_oci_image(Document document, const BlobStore& store, const SourceOptions& options,
                                   Budget& budget) {
  IndexSearch search(store, options.architecture, budget);
  for (int level = 0; is_index(document); ++level) {
    if (level == kMaxIndexLevels) return fail(ErrorCode::kEifBuilding, "the image is an index of indexes without end");
    auto entries = image_entries(*array_at(document, "manifests"));
    if (entries.size() != 1 || value_at(*entries.front(), "platform") != nullptr) {
      NITRO_TRY(entries, search.nearest(entries));
    }
    NITRO_TRY(const auto chosen, parse_descriptor(*entries.front(), "the index"));
    NITRO_TRY(document, read_blob_document(chosen, store, "the manifest", budget));
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
  NITRO_TRY(source.config, read_blob_document(config, store, "the configuration", budget));
  for (const auto& layer : *layers) {
    NITRO_TRY(const auto descriptor, parse_descriptor(layer, "the manifest"));
    if (descriptor.size_bytes > kMaxUnpackedBytes) {
      return fail(ErrorCode::kEifBuilding, "layer " + descriptor.digest + " has " +
                                               std::to_string(descriptor.size_bytes) +
                                               " bytes, which no enclave can hold");
    }
    NITRO_TRY(auto content, store(descriptor));
    source.layers.push_back({std::move(content), descriptor.digest, descriptor.digest});
  }
  return source;
}

Result<ImageSource> open_oci_folder(const Reference& reference, const SourceOptions& options, Budget& budget) {
  auto source = read_layout([&reference](const std::string& path) { return open_extent(reference.path + "/" + path); },
                            reference.name, options, budget);
  if (!source) return fail_within("OCI layout " + quote(reference.path), std::move(source).error());
  source->name = reference.path;
  return source;
}

Result<ImageSource> open_oci_archive(const Reference& reference, const SourceOptions& options, Budget& budget) {
  NITRO_TRY(auto archive, open_extent(reference.path));
  auto source = [&]() -> Result<ImageSource> {
    NITRO_TRY(const auto index, ArchiveIndex::read(std::move(archive), budget));
    const auto file = [&index](const std::string& path) -> Result<Extent> {
      if (const Extent* found = index.find(path)) return *found;
      const bool docker = path == "index.json" && index.find("manifest.json") != nullptr;
      return fail(ErrorCode::kEifBuilding,
                  "the archive has no " + quote(path) +
                      (docker ? "; it is a docker archive, for which the prefix is docker-archive:" : ""));
    };
    return read_layout(file, reference.name, options, budget);
  }();
  if (!source) return fail_within("OCI archive " + quote(reference.path), std::move(source).error());
  source->name = reference.path;
  return source;
}

}  // namespace nitro::image
