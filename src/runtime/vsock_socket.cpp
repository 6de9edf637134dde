// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/vsock_socket.h"

namespace nitro {
namespace {

// The socket calls take every kind of address through one pointer type (sockaddr(3type)).
const sockaddr* generic(const sockaddr_vm& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

}  // namespace

Fd vsock_socket(int flags) {
  return Fd(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));
}

sockaddr_vm vsock_address(std::uint32_t cid, std::uint32_t port) {
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = cid;
  address.svm_port = port;
  return address;
}

int bind_to(const Fd& socket, const sockaddr_vm& address) {
  return ::bind(socket.get(), generic(address), sizeof address);
}

int connect_to(const Fd& socket, const sockaddr_vm& address) {
  return ::connect(socket.get(), generic(address), sizeof address);
}

std::optional<sockaddr_vm> vsock_peer(int connection) {
  sockaddr_vm peer{};
  socklen_t size = sizeof peer;
  if (::getpeername(connection, reinterpret_cast<sockaddr*>(&peer), &size) != 0 || peer.svm_family != AF_VSOCK) {
    return std::nullopt;
  }
  return peer;
}

}  // namespace nitro
