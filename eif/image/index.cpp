// SPDX-License-Identifier: Apache-2.0
#include "eif/image/index.h"

#include "eif/image/source.h"
#include "src/base/bytes.h"

namespace nitro::image {

namespace {

using Json = nlohmann::ordered_json;

// BuildKit's "Image attestation storage".
constexpr const char* kReferenceType = "vnd.docker.reference.type";
constexpr std::size_t kMaxSeenBytes = 500;

std::optional<Platform> stated_platform(const Json& entry) {
  const auto* platform = value_at(entry, "platform");
  return platform == nullptr ? std::nullopt : platform_in(*platform);
}

// Artifacts other than images also have manifests, with other types of configuration.
bool is_image_config(const Descriptor& config) {
  return config.media_type.empty() || config.media_type == "application/vnd.oci.image.config.v1+json" ||
         config.media_type == "application/vnd.docker.container.image.v1+json";
}

}  // namespace

std::string annotation(const Json& descriptor, const char* key) {
  const auto* annotations = value_at(descriptor, "annotations");
  return annotations == nullptr ? std::string() : text_at(*annotations, key);
}

bool is_attestation(const Json& descriptor) {
  const auto platform = stated_platform(descriptor);
  return !annotation(descriptor, kReferenceType).empty() ||
         (platform && platform->os == "unknown" && platform->architecture == "unknown");
}

std::vector<const Json*> image_entries(const Json& manifests) {
  std::vector<const Json*> entries;
  for (const auto& entry : manifests) {
    if (!is_attestation(entry)) entries.push_back(&entry);
  }
  return entries;
}

Result<std::optional<Platform>> IndexSearch::look_at(const Json& entry, int level) {
  using Found = std::optional<Platform>;
  if (++looked_at_ > kMaxLookedAt) {
    return fail(ErrorCode::kEifBuilding, "it lists more than " + std::to_string(kMaxLookedAt) +
                                             " manifests without a platform, which would all have to be looked at");
  }
  NITRO_TRY(const auto descriptor, parse_descriptor(entry, "the index"));
  NITRO_TRY(const auto document, read_blob_document(descriptor, store_, "the manifest", budget_));
  if (const auto* manifests = array_at(document, "manifests"); manifests != nullptr) {
    NITRO_TRY(const auto candidates, search(image_entries(*manifests), level + 1));
    return candidates.empty() ? Found() : Found(candidates.front().platform);
  }
  const auto* config = value_at(document, "config");
  if (config == nullptr) return Found();
  NITRO_TRY(const auto config_descriptor, parse_descriptor(*config, "the manifest"));
  if (!is_image_config(config_descriptor)) return Found();
  NITRO_TRY(const auto configuration, read_blob_document(config_descriptor, store_, "the configuration", budget_));
  return platform_in(configuration);
}

Result<std::vector<IndexSearch::Candidate>> IndexSearch::search(const Entries& entries, int level) {
  if (level > kMaxIndexLevels) return fail(ErrorCode::kEifBuilding, "the image is an index of indexes without end");
  for (const bool stated : {true, false}) {
    std::vector<const Json*> found;
    std::vector<Platform> platforms;
    for (const auto* entry : entries) {
      auto platform = stated_platform(*entry);
      if (platform.has_value() != stated) continue;
      if (!stated) {
        NITRO_TRY(platform, look_at(*entry, level));
      }
      if (!platform) continue;
      if (seen_.size() < kMaxSeenBytes) seen_ += (seen_.empty() ? "" : ", ") + quote(platform->text());
      found.push_back(entry);
      platforms.push_back(*std::move(platform));
    }
    std::vector<Candidate> candidates;
    for (const auto i : image::nearest(platforms, architecture_)) candidates.push_back({found[i], platforms[i]});
    if (!candidates.empty()) return candidates;
  }
  return std::vector<Candidate>();
}

Result<IndexSearch::Entries> IndexSearch::nearest(const Entries& entries) {
  NITRO_TRY(const auto candidates, search(entries, 0));
  if (candidates.empty()) {
    return fail(ErrorCode::kDockerImagePull, "the image is not made for linux/" + architecture_ + ", only for " +
                                                 (seen_.empty() ? "no platform at all" : seen_));
  }
  Entries nearest;
  for (const auto& candidate : candidates) nearest.push_back(candidate.entry);
  return nearest;
}

}  // namespace nitro::image
