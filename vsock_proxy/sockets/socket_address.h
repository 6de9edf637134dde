// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <optional>
#include <string>

#include "nitro/fd.h"
#include "vsock_proxy/config/address_block.h"
#include "vsock_proxy/config/endpoint.h"

namespace nitro::proxy {

/// An address of AF_INET, AF_INET6, AF_VSOCK or AF_UNIX.
class SocketAddress {
 public:
  [[nodiscard]] static SocketAddress of_tcp(const IpAddress& address, std::uint16_t port);
  [[nodiscard]] static SocketAddress of_vsock(std::uint32_t cid, std::uint32_t port);
  /// `path` is shorter than sun_path (parse_endpoint checks it).
  [[nodiscard]] static SocketAddress of_unix(const std::string& path);
  /// The address of the other end; nullopt if it is gone, or of another family.
  [[nodiscard]] static std::optional<SocketAddress> peer_of(int socket);
  /// The address of this end, likewise.
  [[nodiscard]] static std::optional<SocketAddress> own_of(int socket);

  [[nodiscard]] int family() const { return storage_.ss_family; }
  [[nodiscard]] std::optional<std::uint32_t> cid() const;
  [[nodiscard]] std::optional<IpAddress> ip() const;
  /// "10.0.0.1:443", "[2001:db8::1]:443", "vsock:16:8000", "unix:/run/x"; "unix" for a client without a name.
  [[nodiscard]] std::string text() const;

  /// A non-blocking, close-on-exec stream socket of this family; invalid on failure, with errno set.
  [[nodiscard]] Fd new_socket() const;
  /// bind(2) and connect(2), with their results.
  [[nodiscard]] int bind(int socket) const;
  [[nodiscard]] int connect(int socket) const;

 private:
  using NameOf = int (*)(int, sockaddr*, socklen_t*);
  static std::optional<SocketAddress> named_by(NameOf name_of, int socket);
  [[nodiscard]] const sockaddr* generic() const { return reinterpret_cast<const sockaddr*>(&storage_); }

  sockaddr_storage storage_{};
  socklen_t size_ = 0;
};

/// Options of a connection: no delay for small pieces, and keepalive, which notices a peer that is gone after about
/// two minutes. Sockets of other families have neither.
void tune_connection(int socket);
/// Makes close(2) reset the connection, where its family can: the other end learns that bytes may be missing.
void reset_on_close(int socket);
/// The error that the kernel holds for a socket (SO_ERROR); 0: none.
[[nodiscard]] int pending_error(int socket);

}  // namespace nitro::proxy
