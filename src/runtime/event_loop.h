// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>

#include "nitro/fd.h"

namespace nitro {

/// One thread's loop over descriptors, timers and signals (epoll, timerfd, signalfd). Everything happens on the thread
/// that calls run(); callbacks may watch, change and cancel anything, themselves included, and must not block.
///
/// A watch lives as long as the returned Watch object; destroying that cancels it. The loop must outlive its watches.
/// Watched descriptors are borrowed: cancel the watch before closing the descriptor.
class EventLoop {
 public:
  /// Bits of epoll(7): EPOLLIN, EPOLLOUT, … Level-triggered unless EPOLLET is given.
  using FdCallback = std::function<void(std::uint32_t events)>;
  using TimerCallback = std::function<void()>;
  using SignalCallback = std::function<void(int signal)>;

  class Watch {
   public:
    Watch() = default;
    Watch(Watch&&) noexcept = default;
    Watch& operator=(Watch&& other) noexcept;
    ~Watch();
    [[nodiscard]] bool active() const { return entry_ != nullptr; }
    void cancel();

   private:
    friend class EventLoop;
    struct Entry;
    explicit Watch(std::shared_ptr<Entry> entry) : entry_(std::move(entry)) {}
    std::shared_ptr<Entry> entry_;
  };

  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  ~EventLoop();

  static Result<std::unique_ptr<EventLoop>> create();

  Result<Watch> watch_fd(int fd, std::uint32_t events, FdCallback callback);
  /// Changes what an fd watch waits for; 0 pauses it (EPOLLERR and EPOLLHUP are always reported).
  Result<void> update(const Watch& watch, std::uint32_t events);
  /// Calls back once after `delay`, or every `delay` (greater than 0) if `repeat`; uses the monotonic clock. Needs no
  /// descriptor and cannot fail.
  [[nodiscard]] Watch watch_timer(std::chrono::nanoseconds delay, TimerCallback callback, bool repeat = false);
  /// Receives `signals` through a signalfd; the caller must have blocked them in every thread (block_signals).
  Result<Watch> watch_signals(std::initializer_list<int> signals, SignalCallback callback);
  /// Calls back once, in the next round of the loop.
  void defer(std::function<void()> callback);

  /// Runs until stop(). Errors: kEpoll.
  Result<void> run();
  /// Waits for events once, at most `timeout` (negative: no limit), and delivers them. For tests, and for use between
  /// the steps of work that keeps the loop's thread busy. Must not be called from a callback.
  Result<void> run_once(std::chrono::milliseconds timeout);
  void stop() { stopped_ = true; }
  /// Whether stop() was called since the last run() began, or at all if there was none.
  [[nodiscard]] bool stopped() const { return stopped_; }

 private:
  EventLoop();
  struct State;
  std::unique_ptr<State> state_;
  bool stopped_ = false;
};

/// Blocks `signals` in the calling thread (threads started later inherit this). Errors: kSignalMasking.
Result<void> block_signals(std::initializer_list<int> signals);
/// Unblocks them; a pending one takes effect at once. Errors: kSignalUnmasking.
Result<void> unblock_signals(std::initializer_list<int> signals);

}  // namespace nitro
