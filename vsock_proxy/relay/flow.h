// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "nitro/fd.h"
#include "src/runtime/event_loop.h"
#include "vsock_proxy/relay/pipes.h"

namespace nitro::proxy {

/// What connections on one thread share to move their bytes.
struct Means {
  std::span<std::byte> buffer;  ///< used within a call only; at least Flow::kBulkBytes
  Pipes& pipes;
};

/// A socket of a relayed connection and what is known of it since the last event. Events are edge-triggered, so that
/// holds until a call says otherwise.
struct RelaySocket {
  EventLoop& loop;
  Fd fd;
  EventLoop::Watch watch;
  bool readable = false;
  bool writable = true;
  bool ended = false;   ///< the peer sends no more, though there may be bytes to read
  bool failed = false;  ///< the kernel holds an error

  /// Waits for events: notes each and calls `on_event`. Errors: kEpoll.
  Result<void> start(std::function<void()> on_event);
  /// The kernel takes no more bytes; an event says when it does again.
  void wait_for_space();

 private:
  void note(std::uint32_t events);
};

enum class Progress {
  kWaiting,   ///< for an event
  kMore,      ///< the turn is used up
  kFinished,  ///< end-of-file was passed on
  kBroken,    ///< the connection cannot go on
};

/// One direction of a connection.
///
/// Few bytes are copied through the shared buffer, which is the quickest for them. Once a read finds kBulkBytes, the
/// next ones go through a pipe, until one finds less than kFewBytes; all are copied if the sender is on vsock, which
/// has no pages to give away (docs/performance.md says what each costs). What the receiver does not take at once is
/// kept, in memory of its own or in the pipe, and nothing more is read until that is gone.
class Flow {
 public:
  static constexpr std::size_t kBulkBytes = std::size_t{32} << 10;
  static constexpr std::size_t kFewBytes = std::size_t{8} << 10;

  /// `from`, `to` and `moved` must outlive this object. `held` goes to `to` first.
  Flow(RelaySocket& from, RelaySocket& to, std::atomic<std::uint64_t>& moved, std::vector<std::byte> held)
      : from_(from), to_(to), moved_(moved), held_(std::move(held)) {}

  /// Moves bytes until there are no more, the receiver takes no more, or `turn_bytes` or a little more were moved.
  Progress pump(const Means& means, std::size_t turn_bytes);

  /// Whether the receiver has not taken everything yet that was read.
  [[nodiscard]] bool holds_bytes() const { return pipe_ != nullptr || !held_.empty(); }

 private:
  bool can_splice();
  ssize_t receive(const Means& means);
  bool deliver_held();
  bool deliver(std::span<const std::byte>& bytes);
  bool note_delivery(ssize_t result);
  Progress finish();

  RelaySocket& from_;
  RelaySocket& to_;
  std::atomic<std::uint64_t>& moved_;
  std::vector<std::byte> held_;
  std::size_t delivered_ = 0;  // of held_
  Pipes::Lent pipe_;           // while it holds bytes
  bool bulk_ = false;          // the next read is worth a pipe
  std::optional<bool> can_splice_;
  bool finished_ = false;
};

}  // namespace nitro::proxy
