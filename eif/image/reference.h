// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "nitro/result.h"

namespace nitro::image {

/// Where an image comes from.
enum class Transport {
  kUnspecified,    ///< no prefix: the engine, or the registry if no engine is set up
  kDaemon,         ///< docker-daemon:NAME
  kDockerArchive,  ///< docker-archive:PATH[:NAME|:@INDEX]
  kOci,            ///< oci:FOLDER[:NAME]
  kOciArchive,     ///< oci-archive:PATH[:NAME]
  kRegistry,       ///< docker://NAME
};

/// An image as named by the user: the parsed value of --docker-uri.
struct Reference {
  Transport transport = Transport::kUnspecified;
  std::string path;  ///< of archives and folders; else empty
  /// The image's name as given; for engines and registries, with its tag or digest. May be empty for archives and
  /// folders, which often hold only one image.
  std::string name;
};

/// Parses `text`. Errors: kDockerImagePull when a part is missing or the image name is invalid.
Result<Reference> parse_reference(std::string_view text);

/// HOST/REPOSITORY:TAG@DIGEST, with implied parts filled in: "alpine" is docker.io/library/alpine:latest. The grammar
/// is that of engines and registries (github.com/distribution/reference), with sha256 as the only kind of digest.
struct ImageName {
  std::string host;        ///< "docker.io", "localhost:5000"
  std::string repository;  ///< "library/alpine"
  std::string tag;         ///< empty only if there is a digest
  std::string digest;      ///< "sha256:…" or empty

  /// Returns the full name. Two names of the same image have the same canonical name.
  [[nodiscard]] std::string canonical() const;
};
/// Errors: kDockerImagePull, naming the violated rule.
Result<ImageName> parse_image_name(std::string_view text);

/// Returns `name` without tag and digest: "localhost:5000/app" for "localhost:5000/app:1".
[[nodiscard]] std::string_view without_tag(std::string_view name);

}  // namespace nitro::image
