// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/host_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

namespace nitro::proc {
namespace {

struct Sent {
  std::size_t bytes = 0;
  bool full = false;
  bool failed = false;
};

/// Calls sendmsg(2) once; retries only after a signal.
Sent send_pieces(int socket, iovec* pieces, std::size_t count) {
  while (true) {
    msghdr message{};
    message.msg_iov = pieces;
    message.msg_iovlen = count;
    const ssize_t sent = ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return {.bytes = static_cast<std::size_t>(sent)};
    if (errno == EINTR) continue;
    const bool full = errno == EAGAIN || errno == EWOULDBLOCK;
    return {.bytes = 0, .full = full, .failed = !full};
  }
}

}  // namespace

HostStream::Written HostStream::write(std::vector<iovec>& pieces) {
  Written written;
  // Kept bytes go first, to preserve the order.
  while (buffer_.empty() && !pieces.empty()) {
    const Sent sent = send_pieces(socket_.get(), pieces.data(), std::min(pieces.size(), kMaxPieces));
    if (sent.failed) return {.bytes = written.bytes, .failed = true};
    if (sent.full) break;
    written.bytes += sent.bytes;
    drop_front(pieces, sent.bytes);
  }
  for (const iovec& piece : pieces) {
    buffer_.push(std::span(static_cast<const std::byte*>(piece.iov_base), piece.iov_len));
  }
  pieces.clear();
  return written;
}

HostStream::Written HostStream::flush() {
  Written written;
  while (!buffer_.empty()) {
    std::array<iovec, 2> pieces = buffer_.pieces();
    const Sent sent = send_pieces(socket_.get(), pieces.data(), pieces.size());
    if (sent.failed) {
      drop();
      return {.bytes = written.bytes, .failed = true};
    }
    if (sent.full) return written;
    buffer_.pop(sent.bytes);
    written.bytes += sent.bytes;
  }
  // Idle connections hold no memory.
  buffer_.release();
  finish_when_empty();
  return written;
}

HostStream::Read HostStream::read(std::vector<iovec>& pieces) const {
  msghdr message{};
  message.msg_iov = pieces.data();
  message.msg_iovlen = pieces.size();
  while (true) {
    // There is no room for control messages: the kernel drops descriptors that come along.
    const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT);
    if (got > 0) return {Got::kBytes, static_cast<std::size_t>(got)};
    if (got == 0) return {Got::kEnd, 0};
    if (errno == EINTR) continue;
    return {errno == EAGAIN || errno == EWOULDBLOCK ? Got::kNothingNow : Got::kFailed, 0};
  }
}

void HostStream::stop_reading() const {
  ::shutdown(socket_.get(), SHUT_RD);
}

void HostStream::finish() {
  finishing_ = true;
  finish_when_empty();
}

void HostStream::finish_when_empty() {
  if (finishing_ && buffer_.empty()) ::shutdown(socket_.get(), SHUT_WR);
}

}  // namespace nitro::proc
