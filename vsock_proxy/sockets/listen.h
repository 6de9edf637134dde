// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "nitro/fd.h"
#include "src/runtime/unix_socket.h"
#include "vsock_proxy/config/endpoint.h"

namespace nitro::proxy {

/// A listening socket, non-blocking and close-on-exec.
struct Listener {
  Fd socket;
  SocketPath path;  ///< of a Unix socket that we made
};

/// Listens at `endpoint`; `mode` is that of a Unix socket's file. The file of a Unix socket on which nobody listens any
/// more is replaced. Errors: kSocket, with the errno and with what the user can do about it.
Result<Listener> listen_on(const Endpoint& endpoint, unsigned mode);

/// Whether `socket`, which somebody else made (socket activation), listens at `endpoint`.
[[nodiscard]] bool listens_at(int socket, const Endpoint& endpoint);

/// This machine's CID (IOCTL_VM_SOCKETS_GET_LOCAL_CID), or nullopt if it has none.
[[nodiscard]] std::optional<std::uint32_t> local_cid();

}  // namespace nitro::proxy
