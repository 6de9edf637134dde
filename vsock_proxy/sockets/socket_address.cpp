// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/sockets/socket_address.h"

#include <fmt/format.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "src/base/utf8.h"
#include "src/runtime/vsock_socket.h"

namespace nitro::proxy {
namespace {

template <class Address>
void store(sockaddr_storage& storage, socklen_t& size, const Address& address) {
  static_assert(sizeof address <= sizeof storage);
  std::memcpy(&storage, &address, sizeof address);
  size = sizeof address;
}

template <class Address>
Address load(const sockaddr_storage& storage) {
  Address address{};
  std::memcpy(&address, &storage, sizeof address);
  return address;
}

}  // namespace

SocketAddress SocketAddress::of_tcp(const IpAddress& address, std::uint16_t port) {
  SocketAddress result;
  if (address.is_v4()) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_port = htons(port);
    v4.sin_addr = address.v4();
    store(result.storage_, result.size_, v4);
  } else {
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    v6.sin6_addr = address.v6();
    store(result.storage_, result.size_, v6);
  }
  return result;
}

SocketAddress SocketAddress::of_vsock(std::uint32_t cid, std::uint32_t port) {
  SocketAddress result;
  store(result.storage_, result.size_, vsock_address(cid, port));
  return result;
}

SocketAddress SocketAddress::of_unix(const std::string& path) {
  SocketAddress result;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof address.sun_path - 1));
  store(result.storage_, result.size_, address);
  return result;
}

std::optional<SocketAddress> SocketAddress::peer_of(int socket) {
  return named_by([](int fd, sockaddr* address, socklen_t* size) { return ::getpeername(fd, address, size); }, socket);
}

std::optional<SocketAddress> SocketAddress::own_of(int socket) {
  return named_by([](int fd, sockaddr* address, socklen_t* size) { return ::getsockname(fd, address, size); }, socket);
}

std::optional<SocketAddress> SocketAddress::named_by(NameOf name_of, int socket) {
  SocketAddress result;
  result.size_ = sizeof result.storage_;
  if (name_of(socket, reinterpret_cast<sockaddr*>(&result.storage_), &result.size_) != 0) return std::nullopt;
  switch (result.family()) {
    case AF_INET:
    case AF_INET6:
    case AF_VSOCK:
    case AF_UNIX:
      return result;
    default:
      return std::nullopt;
  }
}

std::optional<std::uint32_t> SocketAddress::cid() const {
  if (family() != AF_VSOCK) return std::nullopt;
  return load<sockaddr_vm>(storage_).svm_cid;
}

std::optional<IpAddress> SocketAddress::ip() const {
  if (family() == AF_INET) return IpAddress(load<sockaddr_in>(storage_).sin_addr);
  if (family() == AF_INET6) return IpAddress(load<sockaddr_in6>(storage_).sin6_addr);
  return std::nullopt;
}

std::string SocketAddress::text() const {
  switch (family()) {
    case AF_INET:
      return fmt::format("{}:{}", ip()->text(), ntohs(load<sockaddr_in>(storage_).sin_port));
    case AF_INET6: {
      const IpAddress address = *ip();
      const auto port = ntohs(load<sockaddr_in6>(storage_).sin6_port);
      return address.is_v4() ? fmt::format("{}:{}", address.text(), port)
                             : fmt::format("[{}]:{}", address.text(), port);
    }
    case AF_VSOCK: {
      const auto address = load<sockaddr_vm>(storage_);
      return fmt::format("vsock:{}:{}", address.svm_cid, address.svm_port);
    }
    default: {
      const auto address = load<sockaddr_un>(storage_);
      const std::string path(address.sun_path, ::strnlen(address.sun_path, sizeof address.sun_path));
      return path.empty() ? "unix" : "unix:" + escaped(path);
    }
  }
}

Fd SocketAddress::new_socket() const {
  return Fd(::socket(family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

int SocketAddress::bind(int socket) const {
  return ::bind(socket, generic(), size_);
}

int SocketAddress::connect(int socket) const {
  return ::connect(socket, generic(), size_);
}

void tune_connection(int socket) {
  const auto set = [socket](int level, int option, int value) {
    return ::setsockopt(socket, level, option, &value, sizeof value) == 0;
  };
  // Fails for other families than TCP, which know none of these.
  if (!set(IPPROTO_TCP, TCP_NODELAY, 1)) return;
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 15);
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
}

void reset_on_close(int socket) {
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  [[maybe_unused]] const int ignored = ::setsockopt(socket, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

int pending_error(int socket) {
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) != 0) return errno;
  return error;
}

}  // namespace nitro::proxy
