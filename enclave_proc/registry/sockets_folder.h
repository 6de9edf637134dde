// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

#include "nitro/fd.h"

namespace nitro::proc {

inline constexpr const char* kSystemSocketsFolder = "/run/nitro_enclaves";

/// A folder that holds the sockets of enclaves, open and found to be trusted: nobody may take a socket away or put
/// another in its place but root, the folder's owner and the owner of the socket.
///
/// The rules, by how the folder is found:
///  - kSystem, /run/nitro_enclaves: owned by root or this user, and no symbolic link. Its group may write. The packages
///    of the AWS tools make it without the sticky bit; it is taken so, and root sets the bit when it runs an enclave.
///  - kPrivate, the folder of one user: owned by this user, who alone may write, and no symbolic link.
///  - kConfigured, NITRO_CLI_SOCKETS_PATH: whoever owns it, and links are followed. The user has said so.
/// None of them may be writable for everybody without the sticky bit.
///
/// A value: copies share the descriptor.
class SocketsFolder {
 public:
  enum class Kind { kSystem, kPrivate, kConfigured };

  /// Errors: kFilePermissions when the folder is not trusted, with the reason and what to do; kReadFromDisk when it
  /// cannot be opened, with the errno (ENOENT: there is none).
  static Result<SocketsFolder> open(std::string path, Kind kind);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string path_of(const std::string& name) const { return path_ + "/" + name; }
  /// Of the folder, opened for reading.
  [[nodiscard]] int fd() const { return fd_->get(); }
  /// The group whose members may have enclaves here, if is_shared().
  [[nodiscard]] gid_t group() const { return group_; }
  /// Whether others than the owner may write: the mode bits S_IWGRP and S_IWOTH of the folder.
  [[nodiscard]] mode_t writers() const { return writers_; }
  /// Whether this user may make and remove files here.
  [[nodiscard]] bool writable() const;
  /// Whether a process of this user may have an enclave here: in a private folder root, this user and the owner; in a
  /// folder that others may write to, everybody who could make a socket in it.
  [[nodiscard]] bool admits(uid_t user) const;
  /// The names in the folder, sorted. Errors: kReadFromDisk.
  [[nodiscard]] Result<std::vector<std::string>> names() const;
  /// Sets the sticky bit on a folder that the group may write to and that lacks it. For root. Errors: kFilePermissions.
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

/// The folder in which a new enclave's socket is made: NITRO_CLI_SOCKETS_PATH alone when set; else /run/nitro_enclaves,
/// and for users who may not write there $XDG_RUNTIME_DIR/nitro_enclaves (without XDG_RUNTIME_DIR:
/// /tmp/nitro_enclaves-UID). Made when missing: 01775 for the system folder (by root only), 0700 for the others.
/// Errors: kFileOperation when it cannot be made, and those of SocketsFolder::open.
Result<SocketsFolder> sockets_folder_for_new_enclave();

/// Every folder that may hold sockets of enclaves, those that exist only, in the order of search.
struct SocketsFolders {
  std::vector<SocketsFolder> trusted;
  std::vector<Error> passed_over;  ///< why the others are not looked into
};
/// Errors: kReadFromDisk when NITRO_CLI_SOCKETS_PATH names a folder that cannot be read.
Result<SocketsFolders> find_sockets_folders();

}  // namespace nitro::proc
