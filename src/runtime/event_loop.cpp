// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/event_loop.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <map>
#include <unordered_map>
#include <vector>

namespace nitro {
namespace {

using Clock = std::chrono::steady_clock;

/// When a timer is due, and the order in which timers were set, which makes keys unique.
using TimerKey = std::pair<Clock::time_point, std::uint64_t>;

sigset_t set_of(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals) ::sigaddset(&set, signal);
  return set;
}

}  // namespace

/// One watched descriptor or one timer, shared by the loop's table and the caller's Watch; `loop` is null once the
/// watch is cancelled or the timer has expired.
struct EventLoop::Watch::Entry {
  State* loop = nullptr;
  // A descriptor.
  int fd = -1;
  Fd owned;  // signals own their signalfd
  FdCallback callback;
  // A timer.
  TimerCallback on_time;
  TimerKey due;
  Clock::duration period{};
};

struct EventLoop::State {
  Fd epoll;
  // Entries by their epoll token. Tokens are never reused, so an event that was fetched before its watch was cancelled
  // finds no entry, even if a new watch has the same descriptor number.
  std::unordered_map<std::uint64_t, std::shared_ptr<Watch::Entry>> entries;
  std::unordered_map<const Watch::Entry*, std::uint64_t> tokens;
  std::uint64_t next_token = 1;
  // All timers share one descriptor, created at the start: waiting for descriptors to become available needs a timer
  // that does not fail for lack of one.
  Fd timer;
  Watch timer_watch;
  std::map<TimerKey, std::shared_ptr<Watch::Entry>> timers;
  Clock::time_point armed_for = Clock::time_point::max();  // the time `timer` is set to; max: it is not set
  std::vector<std::function<void()>> deferred;

  /// Sets `timer` for the first of `timers`.
  void arm(Clock::time_point now = Clock::now()) {
    const Clock::time_point first = timers.empty() ? Clock::time_point::max() : timers.begin()->first.first;
    if (first == armed_for) return;
    armed_for = first;
    itimerspec when{};  // zero disarms (timerfd_create(2))
    if (!timers.empty()) {
      const auto left = std::max<std::chrono::nanoseconds>(first - now, std::chrono::nanoseconds(1)).count();
      when.it_value.tv_sec = left / 1'000'000'000;
      when.it_value.tv_nsec = left % 1'000'000'000;
    }
    // Cannot fail: the descriptor is a timerfd, and the time is in range.
    ::timerfd_settime(timer.get(), 0, &when, nullptr);
  }

  void run_timers() {
    std::uint64_t expirations = 0;
    // Nothing to read: the timer was reset after the event had been fetched.
    if (::read(timer.get(), &expirations, sizeof expirations) != sizeof expirations) return;
    // Runs only timers that are due by the time the descriptor was set for: callbacks may keep setting new timers.
    const Clock::time_point due = std::exchange(armed_for, Clock::time_point::max());
    while (!timers.empty() && timers.begin()->first.first <= due) {
      const auto entry = std::move(timers.begin()->second);
      timers.erase(timers.begin());
      if (entry->period > Clock::duration::zero()) {
        // Periods missed while the thread was busy are skipped.
        entry->due.first = std::max(entry->due.first, Clock::now()) + entry->period;
        timers.emplace(entry->due, entry);
      } else {
        entry->loop = nullptr;
      }
      entry->on_time();
    }
    arm();
  }

  void remove(Watch::Entry& entry) {
    if (entry.on_time) {
      entry.loop = nullptr;
      timers.erase(entry.due);
      arm();
      return;
    }
    const auto token = tokens.find(&entry);
    if (token == tokens.end()) return;
    ::epoll_ctl(epoll.get(), EPOLL_CTL_DEL, entry.fd, nullptr);
    entry.loop = nullptr;
    const auto keep_alive = std::move(entries.at(token->second));
    entries.erase(token->second);
    tokens.erase(token);
  }
};

EventLoop::Watch& EventLoop::Watch::operator=(Watch&& other) noexcept {
  if (this != &other) {
    cancel();
    entry_ = std::move(other.entry_);
  }
  return *this;
}

EventLoop::Watch::~Watch() {
  cancel();
}

void EventLoop::Watch::cancel() {
  if (entry_ != nullptr && entry_->loop != nullptr) entry_->loop->remove(*entry_);
  entry_.reset();
}

EventLoop::EventLoop() : state_(std::make_unique<State>()) {}

EventLoop::~EventLoop() {
  for (auto& [token, entry] : state_->entries) entry->loop = nullptr;
  for (auto& [due, entry] : state_->timers) entry->loop = nullptr;
}

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  // The constructor is private: make_unique cannot reach it.
  std::unique_ptr<EventLoop> loop(new EventLoop());
  State& state = *loop->state_;
  state.epoll = Fd(::epoll_create1(EPOLL_CLOEXEC));
  if (!state.epoll) return fail_errno(ErrorCode::kEpoll, "creating an epoll instance");
  state.timer = Fd(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!state.timer) return fail_errno(ErrorCode::kEpoll, "creating a timer");
  NITRO_TRY(state.timer_watch,
            loop->watch_fd(state.timer.get(), EPOLLIN, [&state](std::uint32_t) { state.run_timers(); }));
  return loop;
}

Result<EventLoop::Watch> EventLoop::watch_fd(int fd, std::uint32_t events, FdCallback callback) {
  auto entry = std::make_shared<Watch::Entry>();
  entry->loop = state_.get();
  entry->fd = fd;
  entry->callback = std::move(callback);
  const std::uint64_t token = state_->next_token++;
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  if (::epoll_ctl(state_->epoll.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    return fail_errno(ErrorCode::kEpoll, fmt::format("watching descriptor {}", fd));
  }
  state_->tokens.emplace(entry.get(), token);
  state_->entries.emplace(token, entry);
  return Watch(std::move(entry));
}

Result<void> EventLoop::update(const Watch& watch, std::uint32_t events) {
  if (!watch.active() || watch.entry_->loop == nullptr) return {};
  epoll_event event{};
  event.events = events;
  event.data.u64 = state_->tokens.at(watch.entry_.get());
  if (::epoll_ctl(state_->epoll.get(), EPOLL_CTL_MOD, watch.entry_->fd, &event) != 0) {
    return fail_errno(ErrorCode::kEpoll, fmt::format("changing the watch of descriptor {}", watch.entry_->fd));
  }
  return {};
}

EventLoop::Watch EventLoop::watch_timer(std::chrono::nanoseconds delay, TimerCallback callback, bool repeat) {
  auto entry = std::make_shared<Watch::Entry>();
  entry->loop = state_.get();
  entry->on_time = std::move(callback);
  const Clock::time_point now = Clock::now();
  entry->due = {now + delay, state_->next_token++};
  if (repeat) entry->period = delay;
  state_->timers.emplace(entry->due, entry);
  state_->arm(now);
  return Watch(std::move(entry));
}

Result<EventLoop::Watch> EventLoop::watch_signals(std::initializer_list<int> signals, SignalCallback callback) {
  const sigset_t set = set_of(signals);
  Fd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd) return fail_errno(ErrorCode::kSignalMasking, "creating a signal descriptor");
  const int number = fd.get();
  NITRO_TRY(Watch watch, watch_fd(number, EPOLLIN, [number, callback = std::move(callback)](std::uint32_t) {
              signalfd_siginfo info{};
              if (::read(number, &info, sizeof info) == sizeof info) callback(static_cast<int>(info.ssi_signo));
            }));
  watch.entry_->owned = std::move(fd);
  return watch;
}

void EventLoop::defer(std::function<void()> callback) {
  state_->deferred.push_back(std::move(callback));
}

Result<void> EventLoop::run() {
  stopped_ = false;
  while (!stopped_) NITRO_CHECK(run_once(std::chrono::milliseconds(-1)));
  return {};
}

Result<void> EventLoop::run_once(std::chrono::milliseconds timeout) {
  // Callbacks deferred from now on run in the next round, so that events are handled in between.
  const auto deferred = std::exchange(state_->deferred, {});
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(state_->epoll.get(), events.data(), static_cast<int>(events.size()),
                                 deferred.empty() ? static_cast<int>(timeout.count()) : 0);
  if (count < 0 && errno != EINTR) return fail_errno(ErrorCode::kEpoll, "waiting for events");
  for (int i = 0; i < count; ++i) {
    // A copy: epoll_event is packed, so its members cannot be bound to references.
    const epoll_event event = events[static_cast<std::size_t>(i)];
    const std::uint64_t token = event.data.u64;
    const auto found = state_->entries.find(token);
    if (found == state_->entries.end()) continue;
    // The callback may cancel its own watch: keep the entry alive until it returns.
    const std::shared_ptr<Watch::Entry> entry = found->second;
    entry->callback(event.events);
  }
  for (const auto& callback : deferred) callback();
  return {};
}

Result<void> block_signals(std::initializer_list<int> signals) {
  const sigset_t set = set_of(signals);
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return fail_errno(ErrorCode::kSignalMasking, "blocking signals", error);
  }
  return {};
}

Result<void> unblock_signals(std::initializer_list<int> signals) {
  const sigset_t set = set_of(signals);
  if (const int error = ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr); error != 0) {
    return fail_errno(ErrorCode::kSignalUnmasking, "unblocking signals", error);
  }
  return {};
}

}  // namespace nitro
