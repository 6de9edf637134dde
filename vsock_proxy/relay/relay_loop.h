// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "nitro/fd.h"
#include "src/runtime/event_loop.h"
#include "vsock_proxy/relay/pipes.h"

namespace nitro::proxy {

/// Bytes that relays have moved. Read by other threads at any time.
struct Traffic {
  std::atomic<std::uint64_t> to_server{0};
  std::atomic<std::uint64_t> to_client{0};
};

/// How a connection ended.
enum class RelayEnd {
  kClosed,  ///< both sides had ended their streams, and every byte was delivered
  kReset,   ///< one side reset the connection, or vanished; the other was reset too
  kIdle,    ///< no byte had moved for the route's time
};

/// A connection to relay: two connected, non-blocking stream sockets.
struct RelayJob {
  Fd client;
  Fd server;
  std::vector<std::byte> from_client;  ///< bytes that were read from the client already
  std::chrono::seconds idle_time{0};   ///< 0: none
  std::shared_ptr<Traffic> traffic;    ///< not null
  /// Called once, on the relaying thread, after both sockets were closed.
  std::function<void(RelayEnd)> on_end;
};

/// Relays connections on one event loop.
///
/// Bytes go through a buffer and a pipe that all connections share (flow.h). What the receiving side does not take at
/// once is held, kBufferBytes at most for each direction, and nothing more is read for it until that is gone:
/// backpressure reaches the sender, and a connection that waits holds nothing. End-of-file is passed on in each
/// direction by itself (half-close), a reset is passed on as a reset.
class RelayLoop {
 public:
  /// Found by measuring: larger ones fall out of the processor's cache, smaller ones cost more calls.
  static constexpr std::size_t kBufferBytes = std::size_t{256} << 10;
  /// What one connection may move, with the last piece a little more, before others get their turn.
  static constexpr std::size_t kBytesPerTurn = std::size_t{1} << 20;

  /// `loop` must outlive this object. SIGPIPE must be ignored or blocked. At most `pipes` pipes, of two descriptors
  /// each, hold bytes for slow receivers; other bytes are held in memory.
  RelayLoop(EventLoop& loop, std::size_t pipes);
  RelayLoop(const RelayLoop&) = delete;
  RelayLoop& operator=(const RelayLoop&) = delete;
  /// Resets all connections.
  ~RelayLoop();

  /// On the loop's thread. A job that cannot be watched ends at once, with kReset.
  void add(RelayJob job);

 private:
  class Relay;
  void settle(Relay& relay);
  void end(Relay& relay, RelayEnd how);
  void again(Relay& relay);
  void take_turns();
  void end_idle();

  EventLoop& loop_;
  std::unique_ptr<std::byte[]> buffer_;
  Pipes pipes_;  // outlives the relays, which borrow from it
  std::list<std::unique_ptr<Relay>> relays_;
  std::vector<Relay*> again_;  // to be continued in the next round
  std::vector<Relay*> turn_;   // being continued; null: ended since
  EventLoop::Watch idle_timer_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace nitro::proxy
