// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "eif/image/oci.h"
#include "eif/image/platform.h"
#include "nitro/result.h"

namespace nitro::image {

/// Returns the annotation `key` of a descriptor, or an empty string.
[[nodiscard]] std::string annotation(const nlohmann::ordered_json& descriptor, const char* key);

/// Whether a descriptor belongs to an attestation about an image (BuildKit stores them side by side), not to an image.
[[nodiscard]] bool is_attestation(const nlohmann::ordered_json& descriptor);

/// Returns the elements of an array of descriptors that are not attestations.
[[nodiscard]] std::vector<const nlohmann::ordered_json*> image_entries(const nlohmann::ordered_json& manifests);

/// Chooses among the entries of an index by the platform that an enclave needs (see distance()).
///
/// Most descriptors state their platform. If none of those fits the enclave, the others are inspected: a manifest's
/// configuration, or the entries of a nested index. One object inspects at most kMaxLookedAt of them, however indexes
/// are nested.
class IndexSearch {
 public:
  using Entries = std::vector<const nlohmann::ordered_json*>;

  /// All arguments are borrowed.
  IndexSearch(const BlobStore& store, const std::string& architecture, Budget& budget)
      : store_(store), architecture_(architecture), budget_(budget) {}

  /// Returns the entries that fit the enclave best, in their order; they may be indexes. Never empty. Errors:
  /// kDockerImagePull when no image is for the enclave, listing the platforms found; kEifBuilding; those of the store.
  Result<Entries> nearest(const Entries& entries);

  static constexpr int kMaxLookedAt = 64;

 private:
  struct Candidate {
    const nlohmann::ordered_json* entry;
    Platform platform;
  };
  Result<std::vector<Candidate>> search(const Entries& entries, int level);
  Result<std::optional<Platform>> look_at(const nlohmann::ordered_json& entry, int level);

  const BlobStore& store_;
  const std::string& architecture_;
  Budget& budget_;
  int looked_at_ = 0;
  std::string seen_;  // platforms, for the message
};

}  // namespace nitro::image
