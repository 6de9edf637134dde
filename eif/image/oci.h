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

/// Fetches a blob, of which no more than its size is ever fetched. Need not verify it.
using BlobStore = std::function<Result<Extent>(const Descriptor& blob)>;

/// True for a list of manifests: an OCI index or Docker's manifest list.
[[nodiscard]] bool is_index(const nlohmann::ordered_json& document);

/// An index in an index in an index: nobody needs more.
inline constexpr int kMaxIndexLevels = 4;

/// Fetches a document and verifies it; `what` names it in messages. One that is too large by its descriptor is not
/// fetched. Errors: those of the store and of read_document().
Result<Document> read_blob_document(const Descriptor& descriptor, const BlobStore& store, const std::string& what,
                                    Budget& budget);

/// The image that `document`, a manifest or an index, describes: chooses the platform, reads and verifies manifest and
/// configuration. A blob that is larger than what it is for may be is refused by the size that its descriptor says,
/// before it is fetched. Errors: kEifBuilding, kDockerImagePull, those of the store.
Result<ImageSource> read_oci_image(Document document, const BlobStore& store, const SourceOptions& options,
                                   Budget& budget);

}  // namespace nitro::image
