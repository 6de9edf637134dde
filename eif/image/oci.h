// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "eif/image/source.h"

namespace nitro::image {

/// What an OCI descriptor says of a blob.
struct Descriptor {
  std::string media_type;
  std::string digest;
  std::uint64_t size_bytes = 0;
};
/// Errors: kEifBuilding when `json` is no descriptor or its digest is none we can verify.
Result<Descriptor> parse_descriptor(const nlohmann::ordered_json& json, std::string_view what);

/// Fetches a blob. Need not verify it.
using BlobStore = std::function<Result<Extent>(const Descriptor& blob)>;

/// True for a list of manifests: an OCI index or Docker's manifest list.
[[nodiscard]] bool is_index(const nlohmann::ordered_json& document);

/// The manifest for linux and `architecture` in an index. Errors: kDockerImagePull when there is none; the message
/// lists what there is.
Result<Descriptor> choose_platform(const nlohmann::ordered_json& index, const std::string& architecture);

/// The image that `document`, a manifest or an index, describes: chooses the platform, reads and verifies manifest and
/// configuration. Errors: kEifBuilding, kDockerImagePull, those of the store.
Result<ImageSource> read_oci_image(nlohmann::ordered_json document, const BlobStore& store,
                                   const SourceOptions& options);

}  // namespace nitro::image
