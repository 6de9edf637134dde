// SPDX-License-Identifier: Apache-2.0
#include "src/cli/image_program.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "src/base/bytes.h"

namespace nitro::cli {

Error become_image_program(char* const* argv) {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error) return Error(ErrorCode::kFileOperation, "finding where nitro-cli is installed", error.value());
  const std::string program = (self.parent_path() / NITRO_IMAGE_PROGRAM).lexically_normal().string();
  ::execv(program.c_str(), argv);
  return Error(ErrorCode::kFileOperation,
               fmt::format("starting {}, which makes images and is installed with nitro-cli", quote(program)), errno);
}

}  // namespace nitro::cli
