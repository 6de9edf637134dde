// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/unix_socket.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "src/base/bytes.h"

namespace nitro {
namespace {

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(ErrorCode::kSocket, fmt::format("the socket path {} has {} bytes; 1 to {} are possible", quote(path),
                                                path.size(), sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

// The socket calls take every address family through one pointer type (socket(2)).
const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

}  // namespace

SocketPath::~SocketPath() {
  if (!path_.empty()) ::unlink(path_.c_str());
}

Result<UnixListener> listen_unix(const std::string& path, unsigned mode) {
  NITRO_TRY(const sockaddr_un address, address_of(path));
  UnixListener listener;
  listener.fd = Fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!listener.fd) return fail_errno(ErrorCode::kSocket, "creating a socket");
  // The file gets the mode of the socket, less the umask (unix(7)): so it never has any other mode, and no file is
  // changed by name.
  if (::fchmod(listener.fd.get(), mode) != 0) {
    return fail_errno(ErrorCode::kFilePermissions, fmt::format("setting the permissions of {}", quote(path)));
  }
  const mode_t umask_before = ::umask(0);
  const int bound = ::bind(listener.fd.get(), generic(address), sizeof address);
  const int bind_error = errno;
  ::umask(umask_before);
  if (bound != 0) return fail_errno(ErrorCode::kSocket, fmt::format("naming the socket {}", quote(path)), bind_error);
  listener.path = SocketPath(path);
  if (::listen(listener.fd.get(), SOMAXCONN) != 0) {
    return fail_errno(ErrorCode::kSocket, fmt::format("listening on {}", quote(path)));
  }
  return listener;
}

Result<Fd> connect_unix(const std::string& path, Wait wait) {
  NITRO_TRY(const sockaddr_un address, address_of(path));
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (wait == Wait::kNo ? SOCK_NONBLOCK : 0), 0));
  if (!fd) return fail_errno(ErrorCode::kSocket, "creating a socket");
  while (::connect(fd.get(), generic(address), sizeof address) != 0) {
    if (errno != EINTR) return fail_errno(ErrorCode::kSocket, fmt::format("connecting to {}", quote(path)));
  }
  if (wait == Wait::kNo) NITRO_CHECK(set_nonblocking(fd.get(), false));
  return fd;
}

Result<std::pair<Fd, Fd>> make_socket_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return fail_errno(ErrorCode::kSocketPairCreation, "creating a socket pair");
  }
  return std::pair(Fd(ends[0]), Fd(ends[1]));
}

Result<Fd> accept_unix(int listener) {
  while (true) {
    Fd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd) return fd;
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno == EAGAIN || errno == EWOULDBLOCK) return Fd();
    return fail_errno(ErrorCode::kSocket, "accepting a connection");
  }
}

Result<PeerCredentials> peer_credentials(int fd) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return fail_errno(ErrorCode::kSocket, "identifying the peer of a socket");
  }
  return PeerCredentials{.pid = credentials.pid, .uid = credentials.uid, .gid = credentials.gid};
}

Result<void> set_timeouts(int fd, std::chrono::milliseconds timeout) {
  const timeval value{.tv_sec = timeout.count() / 1000, .tv_usec = timeout.count() % 1000 * 1000};
  for (const int option : {SO_RCVTIMEO, SO_SNDTIMEO}) {
    if (::setsockopt(fd, SOL_SOCKET, option, &value, sizeof value) != 0) {
      return fail_errno(ErrorCode::kSocket, "setting the time limit of a socket");
    }
  }
  return {};
}

}  // namespace nitro
