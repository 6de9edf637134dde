// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>

#include "nitro/fd.h"
#include "nitro/result.h"
#include "src/runtime/child.h"

namespace nitro::image {

/// A private folder for the temporary files of other programs, which leave them behind when they are killed. It is
/// removed with its content on destruction, and also when a signal, even SIGKILL, ends this process: it belongs to a
/// child in its own session, which waits for the end of a pipe that only we hold.
class ScratchFolder {
 public:
  /// Creates it in $TMPDIR, else /var/tmp. Errors: kDockerImageBuild.
  static Result<ScratchFolder> make();
  ScratchFolder(ScratchFolder&&) noexcept = default;
  ScratchFolder& operator=(ScratchFolder&&) = delete;
  /// Waits until the folder has been removed.
  ~ScratchFolder();

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  ScratchFolder(std::string path, Fd pipe, Child keeper)
      : path_(std::move(path)), pipe_(std::move(pipe)), keeper_(std::move(keeper)) {}

  std::string path_;
  Fd pipe_;
  Child keeper_;
};

}  // namespace nitro::image
