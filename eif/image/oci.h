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

/// An index in an index in an index: nobody needs more.
inline constexpr int kMaxIndexLevels = 4;

/// Fetches a document and verifies it; `what` names it in messages. Errors: those of the store and of read_document().
Result<nlohmann::ordered_json> read_blob_document(const Descriptor& descriptor, const BlobStore& store,
                                                  const std::string& what);

/// The image that `document`, a manifest or an index, describes: chooses the platform, reads and verifies manifest and
/// configuration. Errors: kEifBuilding, kDockerImagePull, those of the store.
Result<ImageSource> read_oci_image(nlohmann::ordered_json document, const BlobStore& store,
                                   const SourceOptions& options);

}  // namespace nitro::image
