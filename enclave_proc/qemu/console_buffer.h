// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "nitro/fd.h"
#include "nitro/result.h"
#include "src/runtime/accept_gate.h"
#include "src/runtime/event_loop.h"

namespace nitro::proc {

/// The latest megabyte of the guest's output. Positions count bytes since boot, so a reader knows what it has missed.
class ConsoleBuffer {
 public:
  static constexpr std::size_t kDefaultCapacity = std::size_t{1} << 20;

  explicit ConsoleBuffer(std::size_t capacity_bytes = kDefaultCapacity) : capacity_(capacity_bytes) {}

  void append(std::span<const std::byte> bytes);

  /// Position of the oldest byte still in the buffer.
  [[nodiscard]] std::uint64_t begin() const { return end_ - bytes_.size(); }
  /// Position after the newest byte.
  [[nodiscard]] std::uint64_t end() const { return end_; }
  /// Returns the contiguous bytes from `position` on; more may follow at the position after them. `position` is in
  /// [begin(), end()].
  [[nodiscard]] std::span<const std::byte> from(std::uint64_t position) const;
  /// Returns the last `count` bytes, or all if there are fewer.
  [[nodiscard]] std::string tail(std::size_t count) const;

 private:
  std::size_t capacity_;
  std::vector<std::byte> bytes_;  // grows to the capacity; then byte p is at index p % capacity_
  std::uint64_t end_ = 0;
};

/// Serves a ConsoleBuffer to any number of readers. Each gets what the buffer holds and then new output. A reader so
/// slow that the buffer has overwritten bytes it has not read is told how many it missed; the guest never waits. Driven
/// by the event loop.
class ConsoleServer {
 public:
  /// Further readers are closed at once.
  static constexpr std::size_t kMaxReaders = 64;

  explicit ConsoleServer(EventLoop& loop) : loop_(loop), gate_(loop) {}
  ConsoleServer(const ConsoleServer&) = delete;
  ConsoleServer& operator=(const ConsoleServer&) = delete;

  /// Also accepts readers on the Unix socket `path`, mode 0600. Errors: kSocket, kEpoll.
  Result<void> listen(const std::string& path);
  /// `socket` is a stream socket. Anything the reader sends is ignored.
  void add_reader(Fd socket);

  void append(std::span<const std::byte> bytes);
  /// The guest prints nothing more: each reader is closed once it has everything.
  void finish();

  [[nodiscard]] const ConsoleBuffer& buffer() const { return buffer_; }
  [[nodiscard]] std::size_t reader_count() const { return readers_.size(); }

 private:
  struct Reader {
    Fd socket;
    EventLoop::Watch watch;
    std::uint64_t position = 0;
    std::uint64_t lost = 0;  // bytes missed that the reader has not been told of
    std::string marker;      // the rest of "… lost …" that is still to be sent
    bool waiting = false;
  };
  using Readers = std::list<Reader>;

  void on_reader(Readers::iterator reader, std::uint32_t events);
  // Returns false when the reader is gone.
  bool serve(Reader& reader);

  EventLoop& loop_;
  ConsoleBuffer buffer_;
  AcceptGate gate_;
  Readers readers_;
  bool finished_ = false;
};

}  // namespace nitro::proc
