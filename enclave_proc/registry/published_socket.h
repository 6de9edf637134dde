// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "enclave_proc/registry/sockets_folder.h"
#include "nitro/fd.h"

namespace nitro::proc {

/// A listening stream socket that has its name in a sockets folder from the moment in which it listens, and not before:
/// it is made under another name and renamed. So a socket that refuses a connection shows that its process is
/// gone. Takes the name away when it is destroyed, unless another file has it by then.
class PublishedSocket {
 public:
  PublishedSocket() = default;
  PublishedSocket(PublishedSocket&& other) noexcept { *this = std::move(other); }
  PublishedSocket& operator=(PublishedSocket&& other) noexcept;
  ~PublishedSocket() { withdraw(); }

  /// `name` ends with ".sock"; `mode` is not subject to the umask. What a killed process left under the name is
  /// replaced. Errors: kSocket, with EEXIST when a process listens under this name; kFilePermissions.
  static Result<PublishedSocket> publish(const SocketsFolder& folder, const std::string& name, unsigned mode);

  /// Non-blocking; -1 when there is none.
  [[nodiscard]] int fd() const { return listener_.get(); }
  /// Removes the name, then stops to listen.
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

/// Connects to the process behind a socket of the folder; does not wait, and fails with EAGAIN when the process takes
/// no more connections. Errors: kSocket with the errno of connect(2), or with EPERM when the process that listens there
/// is of a user whom the folder does not admit.
Result<Fd> connect_to_published(const SocketsFolder& folder, const std::string& name);

/// Removes the socket `name` (published, or not yet) when nobody listens there any more. Nothing happens to another
/// file, to a socket that another process is just publishing, or in a folder in which this user may not do so.
void remove_if_stale(const SocketsFolder& folder, const std::string& name);

/// The name that a socket has until it listens.
[[nodiscard]] bool is_unpublished_name(std::string_view name);

}  // namespace nitro::proc
