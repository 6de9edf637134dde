// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/directories.h"

#include <fmt/format.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <optional>

#include "src/base/bytes.h"
#include "src/base/environment.h"

namespace nitro {
namespace {

constexpr const char* kSystemLogsFolder = "/var/log/nitro_enclaves";
/// Members of this group may run enclaves: the device and both system folders belong to it.
constexpr const char* kGroup = "ne";

bool is_writable_folder(const std::string& path) {
  return is_folder(path) && ::access(path.c_str(), W_OK | X_OK) == 0;
}

}  // namespace

bool is_folder(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

Result<void> make_folder(const std::string& path, unsigned mode) {
  if (::mkdir(path.c_str(), mode) == 0) {
    if (::chmod(path.c_str(), mode) != 0) {
      return fail_errno(ErrorCode::kFilePermissions, fmt::format("setting the permissions of {}", quote(path)));
    }
    return {};
  }
  if (errno == EEXIST && is_folder(path)) return {};
  return fail_errno(ErrorCode::kFileOperation, fmt::format("creating the folder {}", quote(path)));
}

Result<void> make_system_folder(const std::string& path, unsigned mode) {
  const bool missing = !is_folder(path);
  NITRO_CHECK(make_folder(path, mode));
  const group* members = missing ? ::getgrnam(kGroup) : nullptr;
  if (members != nullptr && ::chown(path.c_str(), 0, members->gr_gid) != 0) {
    return fail_errno(ErrorCode::kFilePermissions, fmt::format("giving {} to the group {}", quote(path), kGroup));
  }
  return {};
}

Result<std::string> logs_folder() {
  if (const auto configured = environment_variable("NITRO_CLI_LOGS_PATH")) return *configured;
  if (::geteuid() == 0) NITRO_CHECK(make_system_folder(kSystemLogsFolder, 0775));
  if (is_writable_folder(kSystemLogsFolder)) return std::string(kSystemLogsFolder);
  std::string folder;
  if (const auto state = environment_variable("XDG_STATE_HOME")) {
    folder = *state + "/nitro_enclaves";
  } else if (const auto home = environment_variable("HOME")) {
    folder = *home + "/.local/state/nitro_enclaves";
  } else {
    return fail(ErrorCode::kFileOperation,
                "there is no folder for logs; set NITRO_CLI_LOGS_PATH, XDG_STATE_HOME or HOME");
  }
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    return fail_errno(ErrorCode::kFileOperation, fmt::format("creating the folder {}", quote(folder)), error.value());
  return folder;
}

std::string blobs_folder() {
  return environment_variable("NITRO_CLI_BLOBS").value_or("/usr/share/nitro_enclaves/blobs");
}

}  // namespace nitro
