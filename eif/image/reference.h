// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "nitro/result.h"

namespace nitro::image {

/// Where an image comes from.
enum class Transport {
  kUnspecified,    ///< no prefix: the engine; where none is set up, the registry
  kDaemon,         ///< docker-daemon:NAME
  kDockerArchive,  ///< docker-archive:PATH[:NAME|:@INDEX]
  kOci,            ///< oci:FOLDER[:NAME]
  kOciArchive,     ///< oci-archive:PATH[:NAME]
  kRegistry,       ///< docker://NAME
};

/// An image as users name it: the words of --docker-uri taken apart.
struct Reference {
  Transport transport = Transport::kUnspecified;
  std::string path;  ///< of archives and folders; else empty
  /// The image's name as given, of engines and registries with its tag or digest. May be empty for archives and
  /// folders, which often hold one image only.
  std::string name;
};

/// Takes `text` apart. Errors: kDockerImagePull when a part is missing or the name of an image is none.
Result<Reference> parse_reference(std::string_view text);

/// HOST/REPOSITORY:TAG@DIGEST, each part where it is understood: "alpine" is docker.io/library/alpine:latest. The
/// grammar is that of engines and registries (github.com/distribution/reference), with sha256 as the only kind of
/// digest.
struct ImageName {
  std::string host;        ///< "docker.io", "localhost:5000"
  std::string repository;  ///< "library/alpine"
  std::string tag;         ///< empty only when there is a digest
  std::string digest;      ///< "sha256:…" or empty

  /// All parts in full. Two names of the same image have the same canonical name.
  [[nodiscard]] std::string canonical() const;
};
/// Errors: kDockerImagePull, with the rule that is broken.
Result<ImageName> parse_image_name(std::string_view text);

/// `name` without tag and digest: "localhost:5000/app:1" is "localhost:5000/app".
[[nodiscard]] std::string_view without_tag(std::string_view name);

}  // namespace nitro::image
