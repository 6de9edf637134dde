// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/device/heartbeat.h"

#include <fmt/format.h>
#include <linux/vm_sockets.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <system_error>

#include "enclave_proc/machine/machine.h"
#include "src/runtime/vsock_socket.h"

namespace nitro::proc {

Result<Fd> Heartbeat::listen() {
  const std::string step = fmt::format("listening at vsock {}:{} for the enclave", kParentCid, kHeartbeatPort);
  Fd listener = vsock_socket(SOCK_NONBLOCK);
  if (!listener) return fail_errno(ErrorCode::kEnclaveBoot, step);
  if (bind_to(listener, vsock_address(kParentCid, kHeartbeatPort)) != 0) {
    if (errno != EADDRINUSE) return fail_errno(ErrorCode::kEnclaveBoot, step);
    return Failure(Error(ErrorCode::kEnclaveBoot,
                         fmt::format("{}: another process already does; if it is an enclave that is starting, "
                                     "try again once it has started",
                                     step),
                         EADDRINUSE));
  }
  if (::listen(listener.get(), SOMAXCONN) != 0) return fail_errno(ErrorCode::kEnclaveBoot, step);
  return listener;
}

Heartbeat::IsEnclave Heartbeat::from_cid(std::uint64_t cid) {
  return [cid](int connection) {
    const auto peer = vsock_peer(connection);
    return peer && (peer->svm_cid == cid || peer->svm_cid == VMADDR_CID_HOST);
  };
}

Result<std::unique_ptr<Heartbeat>> Heartbeat::wait(EventLoop& loop, Fd listener, IsEnclave is_enclave, Events events) {
  std::unique_ptr<Heartbeat> heartbeat(
      new Heartbeat(loop, std::move(listener), std::move(is_enclave), std::move(events)));
  NITRO_TRY(heartbeat->listener_watch_,
            loop.watch_fd(heartbeat->listener_.get(), EPOLLIN,
                          [self = heartbeat.get()](std::uint32_t) { self->on_connection(); }));
  return heartbeat;
}

void Heartbeat::on_connection() {
  // One per round: the listener stays readable while more connections wait.
  connection_ = Fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!connection_) {
    // The peer may disconnect before the connection is accepted; the listener keeps working (accept(2)).
    if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) return;
    return finish(fmt::format("its connection could not be accepted: {}", std::generic_category().message(errno)));
  }
  if (!is_enclave_(connection_.get())) return connection_.reset();
  listener_watch_.cancel();
  listener_.reset();
  auto watch = loop_.watch_fd(connection_.get(), EPOLLIN, [this](std::uint32_t) { on_data(); });
  if (!watch) return finish(watch.error().message());
  connection_watch_ = std::move(*watch);
}

void Heartbeat::on_data() {
  std::byte byte{};
  const ssize_t count = ::recv(connection_.get(), &byte, 1, 0);
  if (count < 0) {
    if (errno == EAGAIN || errno == EINTR) return;
    return finish(fmt::format("its heartbeat could not be read: {}", std::generic_category().message(errno)));
  }
  if (count == 0) return finish("it closed the connection for its heartbeat without sending one");
  if (byte != kHeartbeat) {
    return finish(fmt::format("it sent 0x{:02x} where the heartbeat 0x{:02x} was expected",
                              std::to_integer<unsigned>(byte), std::to_integer<unsigned>(kHeartbeat)));
  }
  // One byte fits into the buffer of a new connection, so this cannot block or be cut short.
  if (::send(connection_.get(), &byte, 1, MSG_NOSIGNAL) != 1)
    return finish(fmt::format("its heartbeat could not be answered: {}", std::generic_category().message(errno)));
  finish({});
}

void Heartbeat::finish(const std::string& failure) {
  listener_watch_.cancel();
  connection_watch_.cancel();
  listener_.reset();
  connection_.reset();
  // The callback may destroy this object.
  const Events events = std::move(events_);
  failure.empty() ? events.on_beat() : events.on_failure(failure);
}

}  // namespace nitro::proc
