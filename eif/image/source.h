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

/// A layer as its transport delivers it: a tar archive, compressed or not.
struct LayerBlob {
  Extent content;
  std::string digest;  ///< of the bytes as delivered; empty when the transport promises none
  std::string name;    ///< for messages
};

/// An image as every transport delivers it. Nothing is unpacked yet and no layer is verified; manifest and
/// configuration are.
struct ImageSource {
  std::string name;                          ///< what the user asked for, for messages
  std::string id;                            ///< digest of the configuration: "sha256:…"
  Document config;                           ///< an object
  std::vector<LayerBlob> layers;             ///< the lowest first
  std::vector<std::string> repository_tags;  ///< "golden/tiny:1"; what the transport says the image is called
  /// What an engine says of the image (GET /images/NAME/json); null for other transports.
  nlohmann::ordered_json inspection;
};

/// What every transport needs to know.
struct SourceOptions {
  /// "amd64" or "arm64": which image of a multi-platform one is taken (see platform.h). Empty: none is for a platform,
  /// so that one image alone can be read only.
  std::string architecture;
};

/// Opens one kind of source each. Errors: kFileOperation for files that cannot be read, kDockerImagePull when there is
/// no such image, kEifBuilding when what is there cannot be understood or has a wrong digest.
/// What they keep is charged to `budget`, which has to outlive the image.
Result<ImageSource> open_docker_archive(const Reference& reference, Budget& budget, const SourceOptions& options = {});
/// The same for an archive that is open already: an engine's answer, say.
Result<ImageSource> read_docker_archive(Extent archive, const std::string& wanted_name, Budget& budget,
                                        const SourceOptions& options = {});
Result<ImageSource> open_oci_folder(const Reference& reference, const SourceOptions& options, Budget& budget);
Result<ImageSource> open_oci_archive(const Reference& reference, const SourceOptions& options, Budget& budget);

}  // namespace nitro::image
