// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/registry/sockets_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "src/base/bytes.h"
#include "src/base/environment.h"
#include "src/runtime/directories.h"

namespace nitro::proc {
namespace {

/// Returns why a folder with this owner and mode is not trusted; empty if it is.
std::string distrust(SocketsFolder::Kind kind, const struct stat& status) {
  const uid_t user = ::geteuid();
  const bool ours = status.st_uid == user;
  if (kind == SocketsFolder::Kind::kSystem && !ours && status.st_uid != 0)
    return fmt::format("it belongs to user {}; it must belong to root", status.st_uid);
  if (kind == SocketsFolder::Kind::kPrivate && !ours)
    return fmt::format("it belongs to user {}, not to this one ({})", status.st_uid, user);
  if (kind == SocketsFolder::Kind::kPrivate && (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return "others may write to it; fix this with chmod go-w";
  if ((status.st_mode & S_IWOTH) != 0 && (status.st_mode & S_ISVTX) == 0)
    return "everybody may remove files in it; fix this with chmod o-w or chmod +t";
  return {};
}

Failure untrusted(const std::string& path, const std::string& reason) {
  return fail(ErrorCode::kFilePermissions,
              fmt::format("the sockets folder {} is not trusted: {}", quote(path), reason));
}

/// Preserves errno.
bool is_link(const std::string& path) {
  const int error = errno;
  struct stat status {};
  const bool link = ::lstat(path.c_str(), &status) == 0 && S_ISLNK(status.st_mode);
  errno = error;
  return link;
}

std::string private_folder() {
  if (const auto runtime = environment_variable("XDG_RUNTIME_DIR")) return *runtime + "/nitro_enclaves";
  return fmt::format("/tmp/nitro_enclaves-{}", ::geteuid());
}

}  // namespace

Result<SocketsFolder> SocketsFolder::open(std::string path, Kind kind) {
  const int links = kind == Kind::kConfigured ? 0 : O_NOFOLLOW;
  Fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | links));
  if (!fd && kind != Kind::kConfigured && is_link(path)) return untrusted(path, "it is a symbolic link");
  if (!fd) return fail_errno(ErrorCode::kReadFromDisk, fmt::format("opening the sockets folder {}", quote(path)));
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0)
    return fail_errno(ErrorCode::kReadFromDisk, fmt::format("looking at the sockets folder {}", quote(path)));
  if (const std::string reason = distrust(kind, status); !reason.empty()) return untrusted(path, reason);
  return SocketsFolder(std::move(path), std::move(fd), status.st_uid, status.st_gid,
                       status.st_mode & (S_IWGRP | S_IWOTH));
}

bool SocketsFolder::writable() const {
  return ::faccessat(fd(), ".", W_OK | X_OK, AT_EACCESS) == 0;
}

bool SocketsFolder::admits(uid_t user) const {
  return writers_ != 0 || user == 0 || user == owner_ || user == ::geteuid();
}

Result<std::vector<std::string>> SocketsFolder::names() const {
  const auto failure = [this] {
    return fail_errno(ErrorCode::kReadFromDisk, fmt::format("reading the sockets folder {}", quote(path_)));
  };
  // A separate open file description, as reading moves its position.
  Fd fd(::openat(this->fd(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return failure();
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::fdopendir(fd.get()), ::closedir);
  if (directory == nullptr) return failure();
  [[maybe_unused]] const int owned_by_directory = fd.release();
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(directory.get())) names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  return names;
}

Result<void> SocketsFolder::protect() const {
  struct stat status {};
  const bool known = ::fstat(fd(), &status) == 0;
  if (known && ((status.st_mode & S_IWGRP) == 0 || (status.st_mode & S_ISVTX) != 0)) return {};
  if (!known || ::fchmod(fd(), (status.st_mode & 07777U) | S_ISVTX) != 0)
    return fail_errno(ErrorCode::kFilePermissions, fmt::format("setting the sticky bit of {}", quote(path_)));
  return {};
}

Result<SocketsFolder> sockets_folder_for_new_enclave() {
  if (const auto configured = environment_variable("NITRO_CLI_SOCKETS_PATH")) {
    NITRO_CHECK(make_folder(*configured, 0700));
    return SocketsFolder::open(*configured, SocketsFolder::Kind::kConfigured);
  }
  const bool is_root = ::geteuid() == 0;
  if (is_root) NITRO_CHECK(make_system_folder(kSystemSocketsFolder, 01775));
  auto system = SocketsFolder::open(kSystemSocketsFolder, SocketsFolder::Kind::kSystem);
  if (is_root && system) NITRO_CHECK(system->protect());
  if (is_root || (system && system->writable())) return system;
  const std::string folder = private_folder();
  NITRO_CHECK(make_folder(folder, 0700));
  return SocketsFolder::open(folder, SocketsFolder::Kind::kPrivate);
}

Result<SocketsFolders> find_sockets_folders() {
  SocketsFolders found;
  if (const auto configured = environment_variable("NITRO_CLI_SOCKETS_PATH")) {
    auto folder = SocketsFolder::open(*configured, SocketsFolder::Kind::kConfigured);
    if (folder) {
      found.trusted.push_back(std::move(*folder));
    } else if (folder.error().code() == ErrorCode::kFilePermissions) {
      found.passed_over.push_back(std::move(folder).error());
    } else if (folder.error().system_errno() != ENOENT) {
      return Failure(std::move(folder).error());
    }
    return found;
  }
  for (const auto& [path, kind] : {std::pair(std::string(kSystemSocketsFolder), SocketsFolder::Kind::kSystem),
                                   std::pair(private_folder(), SocketsFolder::Kind::kPrivate)}) {
    auto folder = SocketsFolder::open(path, kind);
    if (folder) {
      found.trusted.push_back(std::move(*folder));
    } else if (folder.error().system_errno() != ENOENT) {
      found.passed_over.push_back(std::move(folder).error());
    }
  }
  return found;
}

}  // namespace nitro::proc
