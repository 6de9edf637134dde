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

/// The latest megabyte of what the guest has printed. Positions count bytes since boot, so a reader knows what it has
/// missed.
class ConsoleBuffer {
 public:
  static constexpr std::size_t kDefaultCapacity = std::size_t{1} << 20;

  explicit ConsoleBuffer(std::size_t capacity_bytes = kDefaultCapacity) : capacity_(capacity_bytes) {}

  void append(std::span<const std::byte> bytes);

  /// Position of the oldest byte that is still there.
  [[nodiscard]] std::uint64_t begin() const { return end_ - bytes_.size(); }
  /// Position behind the newest byte.
  [[nodiscard]] std::uint64_t end() const { return end_; }
  /// The bytes from `position` on that lie together; more may follow at the position behind them. `position` is in
  /// [begin(), end()].
  [[nodiscard]] std::span<const std::byte> from(std::uint64_t position) const;
  /// The last `count` bytes, or all.
  [[nodiscard]] std::string tail(std::size_t count) const;

 private:
  std::size_t capacity_;
  std::vector<std::byte> bytes_;  // grows to the capacity; then byte p is at index p % capacity_
  std::uint64_t end_ = 0;
};

/// Serves a ConsoleBuffer to any number of readers, each of which gets what is there and then what comes. A reader that
/// is slow for so long that the buffer has moved on is told how much it missed; the guest never waits for anyone.
/// Driven by the event loop.
class ConsoleServer {
 public:
  /// More are closed at once.
  static constexpr std::size_t kMaxReaders = 64;

  explicit ConsoleServer(EventLoop& loop) : loop_(loop), gate_(loop) {}
  ConsoleServer(const ConsoleServer&) = delete;
  ConsoleServer& operator=(const ConsoleServer&) = delete;

  /// Also takes readers on the Unix socket `path`, mode 0600. Errors: kSocket, kEpoll.
  Result<void> listen(const std::string& path);
  /// `socket` is a stream socket. What the reader sends is ignored.
  void add_reader(Fd socket);

  void append(std::span<const std::byte> bytes);
  /// The guest prints nothing more: readers are closed as soon as they have everything.
  void finish();

  [[nodiscard]] const ConsoleBuffer& buffer() const { return buffer_; }
  [[nodiscard]] std::size_t reader_count() const { return readers_.size(); }

 private:
  struct Reader {
    Fd socket;
    EventLoop::Watch watch;
    std::uint64_t position = 0;
    std::uint64_t lost = 0;  // bytes missed that it has not been told of
    std::string marker;      // what is left to send of "… lost …"
    bool waiting = false;
  };
  using Readers = std::list<Reader>;

  void on_reader(Readers::iterator reader, std::uint32_t events);
  // False: the reader is gone.
  bool serve(Reader& reader);

  EventLoop& loop_;
  ConsoleBuffer buffer_;
  AcceptGate gate_;
  Readers readers_;
  bool finished_ = false;
};

}  // namespace nitro::proc
