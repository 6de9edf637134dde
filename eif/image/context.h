// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "nitro/result.h"

namespace nitro::image {

/// A folder as the tar archive that builders take, made piece by piece while it is read: nothing is kept of it.
///
/// Its files are those that Docker's command line sends: what .dockerignore names stays, except Dockerfile and
/// .dockerignore themselves; owners are 0:0, sockets are left out. What they hold is what the reference sends: symbolic
/// links are followed, files with several names are sent once for each. A link that leads nowhere, or to a folder that
/// it lies in, is sent as a link (the reference fails). Names come in the order of their bytes.
class BuildContext {
 public:
  /// Errors: kDockerImageBuild when the folder or its .dockerignore cannot be read.
  static Result<BuildContext> open(const std::string& folder);
  BuildContext(BuildContext&&) noexcept;
  BuildContext& operator=(BuildContext&&) = delete;
  ~BuildContext();

  /// Fills `buffer` from its start with the next bytes of the archive; 0 at its end. Errors: kDockerImageBuild, naming
  /// the file that cannot be read or has become shorter since its size was told. A file that grows is sent as it was.
  Result<std::size_t> read(std::span<std::byte> buffer);

 private:
  struct Parts;
  explicit BuildContext(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace nitro::image
