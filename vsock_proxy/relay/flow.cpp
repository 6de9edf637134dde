// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/relay/flow.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "vsock_proxy/sockets/socket_address.h"

namespace nitro::proxy {
namespace {

constexpr std::uint32_t kEvents = EPOLLIN | EPOLLRDHUP | EPOLLET;
/// Only while a socket takes nothing: otherwise each piece that its peer reads would be an event.
constexpr std::uint32_t kEventsWithSpace = kEvents | EPOLLOUT;

bool would_block() {
  return errno == EAGAIN || errno == EWOULDBLOCK;
}

}  // namespace

Result<void> RelaySocket::start(std::function<void()> on_event) {
  NITRO_TRY(watch, loop.watch_fd(fd.get(), kEvents, [this, call = std::move(on_event)](std::uint32_t events) {
    note(events);
    call();
  }));
  return {};
}

void RelaySocket::note(std::uint32_t events) {
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable = true;
  if (!writable && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) {
    writable = true;
    // Changing a watch that exists does not fail (epoll_ctl(2)); so below.
    static_cast<void>(loop.update(watch, kEvents));
  }
  if ((events & (EPOLLRDHUP | EPOLLHUP)) != 0) ended = true;
  // Not left to the next read: there is none while the other side is slow.
  if ((events & EPOLLERR) != 0 && pending_error(fd.get()) != 0) failed = true;
}

void RelaySocket::wait_for_space() {
  writable = false;
  static_cast<void>(loop.update(watch, kEventsWithSpace));
}

Progress Flow::pump(const Means& means, std::size_t turn_bytes) {
  if (finished_) return Progress::kFinished;
  for (std::size_t done = 0;;) {
    if (!deliver_held()) return Progress::kBroken;
    if (!to_.writable || !from_.readable) return Progress::kWaiting;
    if (done >= turn_bytes) return Progress::kMore;
    const ssize_t count = receive(means);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && would_block()) {
      from_.readable = false;
      return Progress::kWaiting;
    }
    if (count < 0) return Progress::kBroken;
    // After a reset, the end of what had arrived is not the end of the stream.
    if (count == 0) return from_.failed ? Progress::kBroken : finish();
    done += static_cast<std::size_t>(count);
    if (pipe_ != nullptr) continue;
    std::span<const std::byte> bytes = means.buffer.first(static_cast<std::size_t>(count));
    if (!deliver(bytes)) return Progress::kBroken;
    held_.assign(bytes.begin(), bytes.end());
  }
}

bool Flow::can_splice() {
  if (!can_splice_) {
    int family = AF_UNSPEC;
    socklen_t size = sizeof family;
    can_splice_ = ::getsockopt(from_.fd.get(), SOL_SOCKET, SO_DOMAIN, &family, &size) == 0 && family != AF_VSOCK;
  }
  return *can_splice_;
}

/// Reads into a pipe, which then is pipe_, or into the buffer. Returns as recv(2) does.
ssize_t Flow::receive(const Means& means) {
  if (bulk_ && can_splice() && (pipe_ = means.pipes.borrow()) != nullptr) {
    const ssize_t count = pipe_->fill(from_.fd.get());
    const int error = errno;
    if (count >= 0) bulk_ = count >= static_cast<ssize_t>(kFewBytes);
    if (count <= 0) pipe_.reset();
    errno = error;
    // A filter of system calls may forbid it.
    can_splice_ = count >= 0 || (error != EINVAL && error != ENOSYS && error != EPERM);
    if (*can_splice_) return count;
  }
  const std::size_t size = bulk_ ? means.buffer.size() : kBulkBytes;
  const ssize_t count = ::recv(from_.fd.get(), means.buffer.data(), size, 0);
  if (count >= 0) bulk_ = count >= static_cast<ssize_t>(kBulkBytes);
  // A short read has emptied the socket, and new bytes are a new event (epoll(7)); but the end of the stream may be
  // known already. A pipe may also be short of places.
  if (count > 0 && static_cast<std::size_t>(count) < size && !from_.ended) from_.readable = false;
  return count;
}

/// Delivers what was read before, as far as it is taken; returns false if no more can be written.
bool Flow::deliver_held() {
  while (pipe_ != nullptr && to_.writable) {
    if (!note_delivery(pipe_->drain(to_.fd.get()))) return false;
    if (pipe_->held_bytes() == 0) pipe_.reset();
  }
  if (held_.empty()) return true;
  auto rest = std::span<const std::byte>(held_).subspan(delivered_);
  if (!deliver(rest)) return false;
  delivered_ = held_.size() - rest.size();
  if (!rest.empty()) return true;
  // Gives the memory back: a connection that only waits holds none.
  held_ = {};
  delivered_ = 0;
  return true;
}

/// Like deliver_held(); afterwards `bytes` are those that were not taken.
bool Flow::deliver(std::span<const std::byte>& bytes) {
  while (!bytes.empty() && to_.writable) {
    const ssize_t count = ::send(to_.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (!note_delivery(count)) return false;
    if (count > 0) bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return true;
}

/// `result`: of send(2) or splice(2).
bool Flow::note_delivery(ssize_t result) {
  if (result > 0) {
    moved_.fetch_add(static_cast<std::uint64_t>(result), std::memory_order_relaxed);
    return true;
  }
  if (result < 0 && would_block()) to_.wait_for_space();
  return result < 0 && (would_block() || errno == EINTR);
}

/// Passes the end of the stream on.
Progress Flow::finish() {
  finished_ = true;
  // Fails if the connection is gone; then the other direction notices.
  ::shutdown(to_.fd.get(), SHUT_WR);
  return Progress::kFinished;
}

}  // namespace nitro::proxy
