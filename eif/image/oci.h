// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "eif/image/source.h"

namespace nitro::image {

/// The fields of an OCI descriptor.
struct Descriptor {
  std::string media_type;
  std::string digest;
  std::uint64_t size_bytes = 0;
};
/// Errors: kEifBuilding when `json` is not a descriptor or we cannot verify its kind of digest.
Result<Descriptor> parse_descriptor(const nlohmann::ordered_json& json, std::string_view what);

/// Fetches a blob, but never more than its stated size. Need not verify it.
using BlobStore = std::function<Result<Extent>(const Descriptor& blob)>;

/// Whether `document` is a list of manifests: an OCI index or Docker's manifest list.
[[nodiscard]] bool is_index(const nlohmann::ordered_json& document);

/// Limit for nested indexes; deeper nesting has no use.
inline constexpr int kMaxIndexLevels = 4;

/// Fetches a document and verifies it; `what` names it in messages. One whose descriptor states an excessive size is
/// not fetched. Errors: those of the store and of read_document().
Result<Document> read_blob_document(const Descriptor& descriptor, const BlobStore& store, const std::string& what,
                                    Budget& budget);

/// Returns the image described by `document`, a manifest or an index: chooses the platform, then reads and verifies
/// manifest and configuration. A blob whose descriptor states an excessive size for its kind is refused before it is
/// fetched. Errors: kEifBuilding, kDockerImagePull, those of the store.
Result<ImageSource> read_oci_image(Document document, const BlobStore& store, const SourceOptions& options,
                                   Budget& budget);

}  // namespace nitro::image
