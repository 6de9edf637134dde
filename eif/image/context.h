// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "nitro/result.h"

namespace nitro::image {

/// A folder as the tar archive that builders take, produced while the folder is read: nothing is stored.
///
/// Its files are those that Docker's command line sends: files that .dockerignore names are left out, except Dockerfile
/// and .dockerignore themselves; owners are 0:0, sockets are left out. Their content is what the reference sends:
/// symbolic links are followed, and files with several names are sent once for each. A link that leads nowhere, or to a
/// folder that contains it, is sent as a link (the reference fails). Names are sorted by their bytes.
class BuildContext {
 public:
  /// Errors: kDockerImageBuild when the folder or its .dockerignore cannot be read.
  static Result<BuildContext> open(const std::string& folder);
  BuildContext(BuildContext&&) noexcept;
  BuildContext& operator=(BuildContext&&) = delete;
  ~BuildContext();

  /// Fills `buffer` from its start with the next bytes of the archive and returns their number; 0 at its end. A file
  /// that grows is sent with its original size. Errors: kDockerImageBuild, naming a file that cannot be read or has
  /// shrunk since its size was sent.
  Result<std::size_t> read(std::span<std::byte> buffer);

 private:
  struct Parts;
  explicit BuildContext(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace nitro::image
