// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/registry/published_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "enclave_proc/registry/folder_lock.h"
#include "src/base/bytes.h"
#include "src/runtime/unix_socket.h"

namespace nitro::proc {
namespace {

constexpr std::string_view kUnpublished = ".new";
/// A process that was stopped while it held the lock must not keep all others from starting.
constexpr std::chrono::seconds kPatience(2);

std::optional<struct stat> look_at(const SocketsFolder& folder, const std::string& name) {
  struct stat status {};
  if (::fstatat(folder.fd(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return std::nullopt;
  return status;
}

/// Call this with the publication lock held, so that no socket of ours is between creation and publication.
void remove_if_nobody_listens(const SocketsFolder& folder, const std::string& name) {
  const auto before = look_at(folder, name);
  if (!before || !S_ISSOCK(before->st_mode)) return;
  const auto connected = connect_unix(folder.path_of(name), Wait::kNo);
  if (connected || connected.error().system_errno() != ECONNREFUSED) return;
  const auto after = look_at(folder, name);
  if (after && after->st_ino == before->st_ino && after->st_dev == before->st_dev)
    ::unlinkat(folder.fd(), name.c_str(), 0);
}

}  // namespace

PublishedSocket& PublishedSocket::operator=(PublishedSocket&& other) noexcept {
  if (this == &other) return *this;
  withdraw();
  folder_ = std::exchange(other.folder_, std::nullopt);
  name_ = std::move(other.name_);
  listener_ = std::move(other.listener_);
  device_ = other.device_;
  inode_ = other.inode_;
  return *this;
}

Result<PublishedSocket> PublishedSocket::publish(const SocketsFolder& folder, const std::string& name, unsigned mode) {
  // If a stopped process keeps the lock we go on without it: nobody else removes anything then either.
  NITRO_TRY(const FolderLock lock, take_publication_lock(folder, kPatience));
  const std::string unpublished = name.substr(0, name.rfind(".sock")) + std::string(kUnpublished);
  for (const std::string& left : {unpublished, name}) remove_if_nobody_listens(folder, left);
  NITRO_TRY(UnixListener listener, listen_unix(folder.path_of(unpublished), mode));
  const bool taken = look_at(folder, name).has_value();
  if (taken) errno = EEXIST;
  if (taken || ::renameat(folder.fd(), unpublished.c_str(), folder.fd(), name.c_str()) != 0)
    return fail_errno(ErrorCode::kSocket, fmt::format("naming the socket {}", quote(folder.path_of(name))));
  [[maybe_unused]] const std::string renamed = listener.path.release();
  PublishedSocket published(folder, name, std::move(listener.fd));
  if (const auto status = look_at(folder, name)) {
    published.device_ = status->st_dev;
    published.inode_ = status->st_ino;
  }
  return published;
}

void PublishedSocket::withdraw() {
  if (!folder_) return;
  const auto status = look_at(*folder_, name_);
  if (status && status->st_dev == device_ && status->st_ino == inode_) ::unlinkat(folder_->fd(), name_.c_str(), 0);
  folder_.reset();
  listener_.reset();
}

Result<Fd> connect_to_published(const SocketsFolder& folder, const std::string& name) {
  NITRO_TRY(Fd socket, connect_unix(folder.path_of(name), Wait::kNo));
  // For a connected socket these are the credentials the listener had when it began to listen (unix(7)).
  NITRO_TRY(const PeerCredentials listener, peer_credentials(socket.get()));
  if (folder.admits(listener.uid)) return socket;
  return Failure(
      Error(ErrorCode::kSocket,
            fmt::format("user {}, who has no enclaves there, listens on {}", listener.uid, quote(folder.path_of(name))),
            EPERM));
}

void remove_if_stale(const SocketsFolder& folder, const std::string& name) {
  if (!look_at(folder, name) || !folder.writable()) return;
  const auto lock = take_publication_lock(folder, std::chrono::milliseconds(0));
  if (lock && *lock) remove_if_nobody_listens(folder, name);
}

bool is_unpublished_name(std::string_view name) {
  return name.ends_with(kUnpublished);
}

}  // namespace nitro::proc
