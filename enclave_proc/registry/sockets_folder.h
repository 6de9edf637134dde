// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "nitro/fd.h"

namespace nitro::proc {

inline constexpr const char* kSystemSocketsFolder = "/run/nitro_enclaves";

/// A folder that holds the sockets of enclaves, open and found to be trusted: only root, the folder's owner and the
/// owner of a socket can remove or replace that socket.
///
/// The rules depend on how the folder was found:
///  - kSystem, /run/nitro_enclaves: owned by root or this user, and not a symbolic link. Its group may write. The
///    packages of the AWS tools create it without the sticky bit; that is accepted, and root sets the bit when it runs
///    an enclave.
///  - kPrivate, the folder of one user: owned by this user, the only one who may write, and not a symbolic link.
///  - kConfigured, NITRO_CLI_SOCKETS_PATH: any owner, and links are followed: the user chose it.
/// None of them may be world-writable without the sticky bit.
///
/// A value: copies share the descriptor.
class SocketsFolder {
 public:
  enum class Kind { kSystem, kPrivate, kConfigured };

  /// Errors: kFilePermissions when the folder is not trusted, with the reason and the remedy; kReadFromDisk when it
  /// cannot be opened, with the errno (ENOENT: it does not exist).
  static Result<SocketsFolder> open(std::string path, Kind kind);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string path_of(const std::string& name) const { return path_ + "/" + name; }
  /// Descriptor of the folder, opened for reading.
  [[nodiscard]] int fd() const { return fd_->get(); }
  /// The group whose members may have enclaves here, if is_shared().
  [[nodiscard]] gid_t group() const { return group_; }
  /// The folder's mode bits S_IWGRP and S_IWOTH: who besides the owner may write.
  [[nodiscard]] mode_t writers() const { return writers_; }
  /// Whether this user may create and remove files here.
  [[nodiscard]] bool writable() const;
  /// Whether a process of this user may have an enclave here: in a private folder, root, this user and the owner; in a
  /// folder that others may write to, everybody who could create a socket in it.
  [[nodiscard]] bool admits(uid_t user) const;
  /// Returns the names in the folder, sorted. Errors: kReadFromDisk.
  [[nodiscard]] Result<std::vector<std::string>> names() const;
  /// Sets the sticky bit on a folder that is group-writable and lacks it. For root. Errors: kFilePermissions.
  Result<void> protect() const;

 private:
  SocketsFolder(std::string path, Fd fd, uid_t owner, gid_t group, mode_t writers)
      : path_(std::move(path)),
        fd_(std::make_shared<const Fd>(std::move(fd))),
        owner_(owner),
        group_(group),
        writers_(writers) {}

  std::string path_;
  std::shared_ptr<const Fd> fd_;
  uid_t owner_;
  gid_t group_;
  mode_t writers_;
};

/// Returns the folder for a new enclave's socket: NITRO_CLI_SOCKETS_PATH alone when set; else /run/nitro_enclaves, or,
/// for users who may not write there, $XDG_RUNTIME_DIR/nitro_enclaves (without XDG_RUNTIME_DIR:
/// /tmp/nitro_enclaves-UID). Creates it if missing, with mode 01775 for the system folder (by root only) and 0700 for
/// the others. Errors: kFileOperation when it cannot be created, and those of SocketsFolder::open.
Result<SocketsFolder> sockets_folder_for_new_enclave();

/// The existing folders that may hold sockets of enclaves, in search order.
struct SocketsFolders {
  std::vector<SocketsFolder> trusted;
  std::vector<Error> passed_over;  ///< why the others were not searched
};
/// Errors: kReadFromDisk when NITRO_CLI_SOCKETS_PATH names a folder that cannot be read.
Result<SocketsFolders> find_sockets_folders();

}  // namespace nitro::proc
