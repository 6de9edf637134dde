// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/sockets/listen.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/vm_sockets.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

#include "enclave_proc/machine/vsock_address.h"
#include "vsock_proxy/sockets/socket_address.h"

namespace nitro::proxy {
namespace {

SocketAddress address_of(const Endpoint& endpoint) {
  switch (endpoint.kind) {
    case Endpoint::Kind::kVsock:
      return SocketAddress::of_vsock(endpoint.cid.value_or(VMADDR_CID_ANY), endpoint.port);
    case Endpoint::Kind::kTcp:
      // parse_endpoint has checked that a listening host is an address.
      return SocketAddress::of_tcp(IpAddress::parse(endpoint.host).value(), static_cast<std::uint16_t>(endpoint.port));
    case Endpoint::Kind::kUnix:
      break;
  }
  return SocketAddress::of_unix(endpoint.path);
}

std::string wrong_cid(std::uint32_t wanted) {
  const auto own = local_cid();
  if (wanted == proc::kParentCid && own && *own > proc::kParentCid) {
    return fmt::format(
        "this machine's CID is {}, so it is an enclave or another virtual machine; the proxy runs on the "
        "parent instance, whose CID is {}",
        *own, proc::kParentCid);
  }
  return fmt::format(
      "this machine does not have the CID {}{}; on a machine that is no parent instance, --local ENCLAVE "
      "serves a local enclave",
      wanted, own ? fmt::format(" but {}", *own) : "");
}

/// What the user can do about a failed bind(2) or socket(2).
std::string remedy(const Endpoint& endpoint, int error) {
  const bool vsock = endpoint.kind == Endpoint::Kind::kVsock;
  switch (error) {
    case EADDRINUSE:
      return fmt::format("another program listens there (ss --{} --listening --processes shows which)",
                         vsock ? "vsock" : "tcp");
    case EADDRNOTAVAIL:
      return vsock ? wrong_cid(endpoint.cid.value_or(VMADDR_CID_ANY)) : "this machine does not have that address";
    case EAFNOSUPPORT:
      return vsock ? "this kernel has no vsock: load its module (modprobe vsock), or serve a local enclave (--local "
                     "ENCLAVE)"
                   : "this kernel has no such address family";
    case EACCES:
      return "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE";
    default:
      return {};
  }
}

Failure cannot_listen(const Endpoint& endpoint, int error) {
  const std::string advice = remedy(endpoint, error);
  Failure failure = fail_errno(ErrorCode::kSocket, fmt::format("listening on {}", endpoint.text()), error);
  if (advice.empty()) return failure;
  return Failure(Error(ErrorCode::kSocket, fmt::format("{}: {}", failure.value().message(), advice), error));
}

Result<Listener> listen_at_path(const Endpoint& endpoint, unsigned mode) {
  auto listener = listen_unix(endpoint.path, mode);
  if (!listener && listener.error().system_errno() == EADDRINUSE) {
    const auto other = connect_unix(endpoint.path, Wait::kNo);
    if (!other && other.error().system_errno() == ECONNREFUSED && ::unlink(endpoint.path.c_str()) == 0) {
      listener = listen_unix(endpoint.path, mode);
    }
  }
  if (!listener) return fail_within(fmt::format("listening on {}", endpoint.text()), std::move(listener).error());
  return Listener{.socket = std::move(listener->fd), .path = std::move(listener->path)};
}

}  // namespace

Result<Listener> listen_on(const Endpoint& endpoint, unsigned mode) {
  if (endpoint.kind == Endpoint::Kind::kUnix) return listen_at_path(endpoint, mode);
  const SocketAddress address = address_of(endpoint);
  Listener listener{.socket = address.new_socket(), .path = SocketPath()};
  if (!listener.socket) return cannot_listen(endpoint, errno);
  if (endpoint.kind == Endpoint::Kind::kTcp) {
    // Connections of an earlier process in TIME_WAIT do not keep the port busy.
    const int on = 1;
    ::setsockopt(listener.socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  }
  if (address.bind(listener.socket.get()) != 0 || ::listen(listener.socket.get(), SOMAXCONN) != 0) {
    return cannot_listen(endpoint, errno);
  }
  return listener;
}

bool listens_at(int socket, const Endpoint& endpoint) {
  int listening = 0;
  socklen_t size = sizeof listening;
  if (::getsockopt(socket, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || listening == 0) return false;
  const auto own = SocketAddress::own_of(socket);
  return own && own->text() == address_of(endpoint).text();
}

std::optional<std::uint32_t> local_cid() {
  const Fd device(::open("/dev/vsock", O_RDONLY | O_CLOEXEC));
  unsigned cid = 0;
  if (!device || ::ioctl(device.get(), IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid) != 0) return std::nullopt;
  return cid;
}

}  // namespace nitro::proxy
