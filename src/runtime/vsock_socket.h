// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/vm_sockets.h>
#include <sys/socket.h>

#include <cstdint>
#include <optional>

#include "nitro/fd.h"

/// Sockets of AF_VSOCK, see vsock(7).
namespace nitro {

/// Creates a stream socket, close-on-exec; `flags`: SOCK_NONBLOCK or 0. Invalid on failure, with errno set.
[[nodiscard]] Fd vsock_socket(int flags = 0);

[[nodiscard]] sockaddr_vm vsock_address(std::uint32_t cid, std::uint32_t port);

/// bind(2) and connect(2), with their results.
[[nodiscard]] int bind_to(const Fd& socket, const sockaddr_vm& address);
[[nodiscard]] int connect_to(const Fd& socket, const sockaddr_vm& address);

/// Returns the address of the other end, or nullopt if it is not a vsock address.
[[nodiscard]] std::optional<sockaddr_vm> vsock_peer(int connection);

}  // namespace nitro
