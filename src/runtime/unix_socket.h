// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <utility>

#include "nitro/fd.h"

namespace nitro {

/// Owns the name of a socket (or another file) in the file system and removes it once.
class SocketPath {
 public:
  SocketPath() = default;
  explicit SocketPath(std::string path) : path_(std::move(path)) {}
  SocketPath(SocketPath&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  SocketPath& operator=(SocketPath other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~SocketPath();
  [[nodiscard]] const std::string& get() const { return path_; }
  /// Gives up the name without removing it.
  std::string release() { return std::exchange(path_, {}); }

 private:
  std::string path_;
};

/// A listening stream socket and the name it listens under.
struct UnixListener {
  Fd fd;  ///< non-blocking, close-on-exec
  SocketPath path;
};

/// Errors of all functions: kSocket; a path longer than sun_path (107 bytes) is named as such.
/// listen_unix fails when the name exists; `mode` is set with chmod after bind, not subject to the umask.
Result<UnixListener> listen_unix(const std::string& path, unsigned mode);
enum class Wait : bool { kNo, kYes };
/// The socket is blocking afterwards. Waits while the listener's queue is full, or fails with EAGAIN. Keeps the errno
/// (ECONNREFUSED: nobody listens there any more).
Result<Fd> connect_unix(const std::string& path, Wait wait = Wait::kYes);
/// {ours, theirs}; both close-on-exec and blocking.
Result<std::pair<Fd, Fd>> make_socket_pair();
/// accept4 on a non-blocking listener; an invalid Fd when nobody waits. The new socket is non-blocking and
/// close-on-exec.
Result<Fd> accept_unix(int listener);

struct PeerCredentials {
  pid_t pid;
  uid_t uid;
  gid_t gid;
};
/// SO_PEERCRED of unix(7).
Result<PeerCredentials> peer_credentials(int fd);

/// SO_RCVTIMEO and SO_SNDTIMEO; a blocked call then fails with EAGAIN.
Result<void> set_timeouts(int fd, std::chrono::milliseconds timeout);

}  // namespace nitro
