// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "enclave_proc/registry/sockets_folder.h"
#include "nitro/fd.h"

namespace nitro::proc {

/// A listening stream socket whose name appears in a sockets folder only once it listens: it is created under another
/// name and renamed. So a socket that refuses a connection shows that its process is gone. The destructor removes the
/// name, unless another file has it by then.
class PublishedSocket {
 public:
  PublishedSocket() = default;
  PublishedSocket(PublishedSocket&& other) noexcept { *this = std::move(other); }
  PublishedSocket& operator=(PublishedSocket&& other) noexcept;
  ~PublishedSocket() { withdraw(); }

  /// `name` ends with ".sock"; `mode` is not subject to the umask. Replaces a socket that a killed process left under
  /// the name. Errors: kSocket, with EEXIST when a process listens under this name; kFilePermissions.
  static Result<PublishedSocket> publish(const SocketsFolder& folder, const std::string& name, unsigned mode);

  /// Non-blocking; -1 when there is none.
  [[nodiscard]] int fd() const { return listener_.get(); }
  /// Removes the name, then stops listening.
  void withdraw();

 private:
  PublishedSocket(SocketsFolder folder, std::string name, Fd listener)
      : folder_(std::move(folder)), name_(std::move(name)), listener_(std::move(listener)) {}

  std::optional<SocketsFolder> folder_;
  std::string name_;
  Fd listener_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

/// Connects to the process behind a socket of the folder without waiting; fails with EAGAIN when the process accepts no
/// more connections. Errors: kSocket with the errno of connect(2), or with EPERM when the listening process belongs to
/// a user that the folder does not admit.
Result<Fd> connect_to_published(const SocketsFolder& folder, const std::string& name);

/// Removes the socket `name` (published or not) if nobody listens on it any more. Leaves alone other files, sockets
/// that another process is publishing, and folders in which this user may not remove files.
void remove_if_stale(const SocketsFolder& folder, const std::string& name);

/// Whether this is the name of a socket that does not listen yet.
[[nodiscard]] bool is_unpublished_name(std::string_view name);

}  // namespace nitro::proc
