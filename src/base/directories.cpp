// SPDX-License-Identifier: Apache-2.0
#include "nitro/directories.h"

#include <fmt/format.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <optional>

#include "nitro/bytes.h"

namespace nitro {
namespace {

constexpr const char* kSystemLogsFolder = "/var/log/nitro_enclaves";
/// Its members may run enclaves: the device and both system folders are theirs (mode 0775).
constexpr const char* kGroup = "ne";

std::optional<std::string> environment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

bool is_folder(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool is_writable_folder(const std::string& path) {
  return is_folder(path) && ::access(path.c_str(), W_OK | X_OK) == 0;
}

std::string user_sockets_folder() {
  if (const auto runtime = environment("XDG_RUNTIME_DIR")) return *runtime + "/nitro_enclaves";
  return fmt::format("/tmp/nitro_enclaves-{}", ::geteuid());
}

/// Creates the last component of `path` when missing; the mode is set past the umask.
Result<void> make_folder(const std::string& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) == 0) {
    if (::chmod(path.c_str(), mode) != 0) {
      return fail_errno(ErrorCode::kFilePermissions, fmt::format("setting the permissions of {}", quote(path)));
    }
    return {};
  }
  if (errno == EEXIST && is_folder(path)) return {};
  return fail_errno(ErrorCode::kFileOperation, fmt::format("creating the folder {}", quote(path)));
}

/// A folder of the whole machine, for the members of the group too. Packages make them with their group; where there is
/// none yet, the folder is root's alone. To be called as root.
Result<void> make_system_folder(const std::string& path) {
  const bool missing = !is_folder(path);
  NITRO_CHECK(make_folder(path, 0775));
  const group* members = missing ? ::getgrnam(kGroup) : nullptr;
  if (members != nullptr && ::chown(path.c_str(), 0, members->gr_gid) != 0) {
    return fail_errno(ErrorCode::kFilePermissions, fmt::format("giving {} to the group {}", quote(path), kGroup));
  }
  return {};
}

/// /tmp belongs to everybody: a folder there that another user made could be a trap.
Result<void> check_ours(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0)
    return fail_errno(ErrorCode::kFileOperation, fmt::format("looking at {}", quote(path)));
  if (!S_ISDIR(status.st_mode) || status.st_uid != ::geteuid()) {
    return fail(
        ErrorCode::kFileOperation,
        fmt::format("{} is not a folder of this user; set NITRO_CLI_SOCKETS_PATH to a folder that is", quote(path)));
  }
  return {};
}

}  // namespace

Result<std::string> sockets_folder_for_new_enclave() {
  if (const auto configured = environment("NITRO_CLI_SOCKETS_PATH")) {
    NITRO_CHECK(make_folder(*configured, 0700));
    return *configured;
  }
  if (::geteuid() == 0) NITRO_CHECK(make_system_folder(kSystemSocketsFolder));
  if (is_writable_folder(kSystemSocketsFolder)) return std::string(kSystemSocketsFolder);
  std::string folder = user_sockets_folder();
  NITRO_CHECK(make_folder(folder, 0700));
  NITRO_CHECK(check_ours(folder));
  return folder;
}

std::vector<std::string> sockets_folders() {
  std::vector<std::string> folders;
  if (const auto configured = environment("NITRO_CLI_SOCKETS_PATH")) {
    folders.push_back(*configured);
  } else {
    folders.emplace_back(kSystemSocketsFolder);
    folders.push_back(user_sockets_folder());
  }
  std::erase_if(folders, [](const std::string& folder) { return !is_folder(folder); });
  return folders;
}

Result<std::string> logs_folder() {
  if (const auto configured = environment("NITRO_CLI_LOGS_PATH")) return *configured;
  if (::geteuid() == 0) NITRO_CHECK(make_system_folder(kSystemLogsFolder));
  if (is_writable_folder(kSystemLogsFolder)) return std::string(kSystemLogsFolder);
  std::string folder;
  if (const auto state = environment("XDG_STATE_HOME")) {
    folder = *state + "/nitro_enclaves";
  } else if (const auto home = environment("HOME")) {
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
  return environment("NITRO_CLI_BLOBS").value_or("/usr/share/nitro_enclaves/blobs");
}

}  // namespace nitro
