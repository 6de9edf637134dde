// SPDX-License-Identifier: Apache-2.0
#include "eif/image/scratch_folder.h"

#include <unistd.h>

#include <climits>
#include <span>

#include "eif/image/docker_config.h"
#include "src/base/bytes.h"
#include "src/base/environment.h"

namespace nitro::image {

namespace {
// The child creates the folder itself, so there is no moment at which nobody would remove it. Programs that end with us
// may still be writing when the folder is removed, so the removal is retried.
constexpr const char* kKeepFolder =
    "trap '' PIPE; folder=$(mktemp -d -- \"$1/nitro-cli-XXXXXX\") || exit; printf %s \"$folder\"; exec >/dev/null; "
    "cat; "
    "tries=50; until rm -rf -- \"$folder\" || [ $((tries -= 1)) -le 0 ]; do sleep 0.1; done";
}  // namespace

Result<ScratchFolder> ScratchFolder::make() {
  const auto folder = environment_variable("TMPDIR").value_or("/var/tmp");
  NITRO_TRY(auto pipe, make_pipe());
  NITRO_TRY(auto answer, make_pipe());
  ChildOptions options;
  options.arguments = {"/bin/sh", "-c", kKeepFolder, "sh", folder};
  options.stdin_fd = pipe.first.get();
  options.stdout_fd = answer.second.get();
  options.stderr_fd = STDERR_FILENO;
  options.new_session = true;
  auto keeper = Child::spawn(options);
  if (!keeper) return Failure(std::move(keeper).error().as(ErrorCode::kDockerImageBuild));
  answer.second.reset();
  std::string path(PATH_MAX, '\0');
  NITRO_TRY(const auto size, read_full(answer.first.get(), std::as_writable_bytes(std::span(path))));
  if (size == 0) return fail(ErrorCode::kDockerImageBuild, "no folder could be made in " + quote(folder));
  path.resize(size);
  return ScratchFolder(std::move(path), std::move(pipe.second), *std::move(keeper));
}

ScratchFolder::~ScratchFolder() {
  pipe_.reset();
  // Nothing can be done about a folder that cannot be removed.
  if (keeper_.running()) static_cast<void>(keeper_.wait());
}

}  // namespace nitro::image
