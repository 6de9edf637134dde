// SPDX-License-Identifier: Apache-2.0
#include "nitro/event_loop.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <unordered_map>
#include <vector>

namespace nitro {

/// One watched descriptor. The loop's table and the caller's Watch share it; `loop` is null once the watch is
/// cancelled.
struct EventLoop::Watch::Entry {
  State* loop = nullptr;
  int fd = -1;
  Fd owned;  // timers and signals have a descriptor of their own
  FdCallback callback;
};

struct EventLoop::State {
  Fd epoll;
  // Entries by their epoll token. Tokens are never reused, so an event that was fetched before its watch was cancelled
  // finds nothing, even when a new watch has the same descriptor number.
  std::unordered_map<std::uint64_t, std::shared_ptr<Watch::Entry>> entries;
  std::unordered_map<const Watch::Entry*, std::uint64_t> tokens;
  std::uint64_t next_token = 1;
  std::vector<std::function<void()>> deferred;

  void remove(Watch::Entry& entry) {
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

EventLoop::EventLoop(Fd epoll) : state_(std::make_unique<State>()) {
  state_->epoll = std::move(epoll);
}

EventLoop::~EventLoop() {
  for (auto& [token, entry] : state_->entries) entry->loop = nullptr;
}

Result<std::unique_ptr<EventLoop>> EventLoop::create() {
  Fd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return fail_errno(ErrorCode::kEpoll, "creating an epoll instance");
  return std::unique_ptr<EventLoop>(new EventLoop(std::move(epoll)));
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

Result<EventLoop::Watch> EventLoop::watch_timer(std::chrono::nanoseconds delay, TimerCallback callback, bool repeat) {
  Fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  if (!timer) return fail_errno(ErrorCode::kEpoll, "creating a timer");
  // A zero value would disarm the timer (timerfd_create(2)).
  const auto ticks = std::max<std::chrono::nanoseconds>(delay, std::chrono::nanoseconds(1)).count();
  itimerspec when{};
  when.it_value.tv_sec = ticks / 1'000'000'000;
  when.it_value.tv_nsec = ticks % 1'000'000'000;
  if (repeat) when.it_interval = when.it_value;
  if (::timerfd_settime(timer.get(), 0, &when, nullptr) != 0) return fail_errno(ErrorCode::kEpoll, "starting a timer");
  const int fd = timer.get();
  NITRO_TRY(Watch watch, watch_fd(fd, EPOLLIN, [fd, callback = std::move(callback)](std::uint32_t) {
              std::uint64_t expirations = 0;
              // Nothing to read: the timer was set anew after the event had been fetched.
              if (::read(fd, &expirations, sizeof expirations) == sizeof expirations) callback();
            }));
  watch.entry_->owned = std::move(timer);
  return watch;
}

Result<EventLoop::Watch> EventLoop::watch_signals(std::initializer_list<int> signals, SignalCallback callback) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals) ::sigaddset(&set, signal);
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
  const bool work_waits = !state_->deferred.empty();
  std::array<epoll_event, 64> events;
  const int count = ::epoll_wait(state_->epoll.get(), events.data(), static_cast<int>(events.size()),
                                 work_waits ? 0 : static_cast<int>(timeout.count()));
  if (count < 0 && errno != EINTR) return fail_errno(ErrorCode::kEpoll, "waiting for events");
  for (int i = 0; i < count; ++i) {
    // A copy: epoll_event is packed, and its members cannot be referred to.
    const epoll_event event = events[static_cast<std::size_t>(i)];
    const std::uint64_t token = event.data.u64;
    const auto found = state_->entries.find(token);
    if (found == state_->entries.end()) continue;
    // The callback may cancel its own watch: keep it alive until it returns.
    const std::shared_ptr<Watch::Entry> entry = found->second;
    entry->callback(event.events);
  }
  const auto deferred = std::exchange(state_->deferred, {});
  for (const auto& callback : deferred) callback();
  return {};
}

Result<void> block_signals(std::initializer_list<int> signals) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : signals) ::sigaddset(&set, signal);
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return fail_errno(ErrorCode::kSignalMasking, "blocking signals", error);
  }
  return {};
}

}  // namespace nitro
