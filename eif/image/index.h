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

/// The annotation `key` of a descriptor, or empty.
[[nodiscard]] std::string annotation(const nlohmann::ordered_json& descriptor, const char* key);

/// Whether a descriptor is not of an image but of what a builder attests about one (BuildKit stores it beside it).
[[nodiscard]] bool is_attestation(const nlohmann::ordered_json& descriptor);

/// The elements of an array of descriptors that are not attestations.
[[nodiscard]] std::vector<const nlohmann::ordered_json*> image_entries(const nlohmann::ordered_json& manifests);

/// Chooses among what an index lists, by the platform an enclave needs (see distance()).
///
/// Most descriptors say their platform. Where none that does is for the enclave, the others are looked at: a manifest's
/// configuration, or what another index lists. One object looks at kMaxLookedAt of them at most, however indexes are
/// nested.
class IndexSearch {
 public:
  using Entries = std::vector<const nlohmann::ordered_json*>;

  /// All is borrowed.
  IndexSearch(const BlobStore& store, const std::string& architecture, Budget& budget)
      : store_(store), architecture_(architecture), budget_(budget) {}

  /// Those of `entries` that suit the enclave best, in their order; they may be indexes, too. Never none. Errors:
  /// kDockerImagePull when no image is for the enclave, the message lists what there is; kEifBuilding; those of the
  /// store.
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
