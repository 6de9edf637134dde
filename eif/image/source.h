// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eif/image/document.h"
#include "eif/image/extent.h"
#include "eif/image/reference.h"
#include "nitro/result.h"

namespace nitro::image {

/// A layer as delivered by its transport: a tar archive, compressed or not.
struct LayerBlob {
  Extent content;
  std::string digest;  ///< of the bytes as delivered; empty if the transport promises none
  std::string name;    ///< for messages
};

/// An image as delivered by a transport. Nothing is unpacked yet; manifest and configuration are verified, layers are
/// not.
struct ImageSource {
  std::string name;                          ///< the name that the user gave, for messages
  std::string id;                            ///< digest of the configuration: "sha256:…"
  Document config;                           ///< an object
  std::vector<LayerBlob> layers;             ///< the lowest first
  std::vector<std::string> repository_tags;  ///< the image's names according to the transport: "golden/tiny:1"
  /// The engine's description of the image (GET /images/NAME/json); null for other transports.
  nlohmann::ordered_json inspection;
};

/// Options for every transport.
struct SourceOptions {
  /// "amd64" or "arm64": selects the image of a multi-platform one (see platform.h). Empty: no platform matches, so
  /// only a single-platform image can be read.
  std::string architecture;
};

/// Each opens one kind of source. Kept data is charged to `budget`, which must outlive the image. Errors:
/// kFileOperation for files that cannot be read, kDockerImagePull when there is no such image, kEifBuilding when the
/// data is malformed or has a wrong digest.
Result<ImageSource> open_docker_archive(const Reference& reference, Budget& budget, const SourceOptions& options = {});
/// The same for an archive that is already open, such as an engine's answer.
Result<ImageSource> read_docker_archive(Extent archive, const std::string& wanted_name, Budget& budget,
                                        const SourceOptions& options = {});
Result<ImageSource> open_oci_folder(const Reference& reference, const SourceOptions& options, Budget& budget);
Result<ImageSource> open_oci_archive(const Reference& reference, const SourceOptions& options, Budget& budget);

}  // namespace nitro::image
