// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/console_buffer.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "src/base/bytes.h"

namespace nitro::proc {
namespace {

// Bytes sent to one reader per turn, so that a fast reader of a full buffer does not block the loop.
constexpr std::size_t kBytesPerTurn = std::size_t{256} * 1024;

}  // namespace

void ConsoleBuffer::append(std::span<const std::byte> bytes) {
  if (bytes.size() > capacity_) {
    end_ += bytes.size() - capacity_;
    bytes = bytes.last(capacity_);
    // The indexes have moved along with the positions, and all of the old content will be overwritten.
    bytes_.resize(capacity_);
  }
  while (!bytes.empty()) {
    const std::size_t index = end_ % capacity_;
    const std::size_t here = std::min(bytes.size(), capacity_ - index);
    if (bytes_.size() < index + here) bytes_.resize(index + here);
    std::copy_n(bytes.begin(), here, bytes_.begin() + static_cast<std::ptrdiff_t>(index));
    end_ += here;
    bytes = bytes.subspan(here);
  }
}

std::span<const std::byte> ConsoleBuffer::from(std::uint64_t position) const {
  const std::uint64_t available = end_ - position;
  if (available == 0) return {};
  const std::size_t index = position % capacity_;
  return std::span(bytes_).subspan(index, std::min<std::size_t>(available, bytes_.size() - index));
}

std::string ConsoleBuffer::tail(std::size_t count) const {
  std::string text;
  std::uint64_t position = end_ - std::min<std::uint64_t>(count, bytes_.size());
  while (position < end_) {
    const auto piece = from(position);
    text += as_text(piece);
    position += piece.size();
  }
  return text;
}

Result<void> ConsoleServer::listen(const std::string& path) {
  return gate_.open(path, 0600, [this](Fd socket) { add_reader(std::move(socket)); });
}

void ConsoleServer::add_reader(Fd socket) {
  if (readers_.size() >= kMaxReaders) return;
  const auto reader = readers_.emplace(readers_.end());
  reader->socket = std::move(socket);
  reader->position = buffer_.begin();
  // Edge-triggered: a full socket reports once that it has room again.
  auto watch = loop_.watch_fd(reader->socket.get(), EPOLLOUT | EPOLLIN | EPOLLRDHUP | EPOLLET,
                              [this, reader](std::uint32_t events) { on_reader(reader, events); });
  if (!watch) {
    readers_.erase(reader);
    return;
  }
  reader->watch = std::move(*watch);
  // The first event comes at once, as the socket is writable.
  reader->waiting = true;
}

void ConsoleServer::append(std::span<const std::byte> bytes) {
  buffer_.append(bytes);
  for (auto reader = readers_.begin(); reader != readers_.end();) {
    const auto next = std::next(reader);
    if (!reader->waiting && !serve(*reader)) readers_.erase(reader);
    reader = next;
  }
}

void ConsoleServer::finish() {
  finished_ = true;
  for (auto reader = readers_.begin(); reader != readers_.end();) {
    const auto next = std::next(reader);
    if (!reader->waiting && !serve(*reader)) readers_.erase(reader);
    reader = next;
  }
}

void ConsoleServer::on_reader(Readers::iterator reader, std::uint32_t events) {
  if ((events & EPOLLIN) != 0) {
    // Readers are not expected to send anything, and what they send must not fill the socket. A flood ends the
    // connection.
    std::array<char, 512> ignored;
    for (int count = 0; ::recv(reader->socket.get(), ignored.data(), ignored.size(), MSG_DONTWAIT) > 0; ++count) {
      if (count > 16) return static_cast<void>(readers_.erase(reader));
    }
  }
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) return static_cast<void>(readers_.erase(reader));
  if ((events & EPOLLOUT) == 0) return;
  reader->waiting = false;
  if (!serve(*reader)) readers_.erase(reader);
}

bool ConsoleServer::serve(Reader& reader) {
  std::size_t budget = kBytesPerTurn;
  for (;;) {
    if (reader.position < buffer_.begin()) {
      reader.lost += buffer_.begin() - reader.position;
      reader.position = buffer_.begin();
    }
    if (reader.marker.empty() && reader.lost > 0) {
      reader.marker = fmt::format("\n… {} bytes lost …\n", std::exchange(reader.lost, 0));
    }
    const bool in_marker = !reader.marker.empty();
    std::span<const std::byte> piece = in_marker ? as_bytes(reader.marker) : buffer_.from(reader.position);
    if (piece.empty()) return !finished_;
    piece = piece.first(std::min(piece.size(), budget));
    if (piece.empty()) {
      // Enough for now; continue after the others.
      reader.waiting = true;
      // Modifying the watch makes an edge-triggered descriptor report its state again (epoll(7)).
      return loop_.update(reader.watch, EPOLLOUT | EPOLLIN | EPOLLRDHUP | EPOLLET).has_value();
    }
    const ssize_t sent = ::send(reader.socket.get(), piece.data(), piece.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return false;
      reader.waiting = true;
      return true;
    }
    budget -= static_cast<std::size_t>(sent);
    if (in_marker) {
      reader.marker.erase(0, static_cast<std::size_t>(sent));
    } else {
      reader.position += static_cast<std::uint64_t>(sent);
    }
  }
}

}  // namespace nitro::proc
