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
  /// Releases the name without removing it.
  std::string release() { return std::exchange(path_, {}); }

 private:
  std::string path_;
};

/// A listening stream socket and the name it listens under.
struct UnixListener {
  Fd fd;  ///< non-blocking, close-on-exec
  SocketPath path;
};

/// Errors of all functions: kSocket; the message says if a path is longer than sun_path (107 bytes). listen_unix fails
/// if the name exists; the file has `mode` from the start, not subject to the umask.
Result<UnixListener> listen_unix(const std::string& path, unsigned mode);
enum class Wait : bool { kNo, kYes };
/// Returns a blocking socket. If the listener's queue is full, waits or fails with EAGAIN. Preserves the errno
/// (ECONNREFUSED: nobody listens there any more).
Result<Fd> connect_unix(const std::string& path, Wait wait = Wait::kYes);
/// {ours, theirs}; both close-on-exec and blocking.
Result<std::pair<Fd, Fd>> make_socket_pair();
/// accept4 on a non-blocking listener; returns an invalid Fd if no client waits. The new socket is non-blocking and
/// close-on-exec.
Result<Fd> accept_unix(int listener);

struct PeerCredentials {
  pid_t pid;
  uid_t uid;
  gid_t gid;
};
/// SO_PEERCRED, see unix(7).
Result<PeerCredentials> peer_credentials(int fd);

/// Sets SO_RCVTIMEO and SO_SNDTIMEO; a blocked call then fails with EAGAIN.
Result<void> set_timeouts(int fd, std::chrono::milliseconds timeout);

}  // namespace nitro
