// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/sockets/dial.h"

#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace nitro::proxy {
namespace {

/// Lets the families take turns, each in its given order.
std::vector<SocketAddress> interleaved(std::vector<SocketAddress> addresses) {
  std::vector<SocketAddress> result;
  std::vector<SocketAddress> others;
  for (const SocketAddress& address : addresses) {
    (address.family() == addresses.front().family() ? result : others).push_back(address);
  }
  for (std::size_t i = 0; i < others.size(); ++i) {
    const std::size_t at = std::min(2 * i + 1, result.size());
    result.insert(result.begin() + static_cast<std::ptrdiff_t>(at), others[i]);
  }
  return result;
}

}  // namespace

Dial::Dial(EventLoop& loop, std::vector<SocketAddress> addresses, std::chrono::nanoseconds time_limit, OnDone on_done)
    : loop_(loop),
      addresses_(interleaved(std::move(addresses))),
      time_limit_(time_limit),
      on_done_(std::move(on_done)) {}

void Dial::start() {
  limit_ = loop_.watch_timer(time_limit_, [this] {
    for (const Attempt& attempt : attempts_) failures_ += fmt::format("{}: no answer; ", attempt.address.text());
    last_error_ = ETIMEDOUT;
    attempts_.clear();
    next_ = addresses_.size();
    next();
  });
  next();
}

void Dial::next() {
  if (next_ == addresses_.size()) {
    if (!attempts_.empty()) return;
    if (failures_.ends_with("; ")) failures_.erase(failures_.size() - 2);
    return finish(Failure(Error(ErrorCode::kSocket, failures_, last_error_)));
  }
  attempts_.push_back({.address = addresses_[next_++], .socket = {}, .watch = {}, .retry = {}});
  if (next_ < addresses_.size()) head_start_ = loop_.watch_timer(kHeadStart, [this] { next(); });
  connect(attempts_.back());
}

void Dial::connect(Attempt& attempt) {
  if (!attempt.socket) attempt.socket = attempt.address.new_socket();
  if (!attempt.socket) return fail(attempt, errno);
  if (attempt.address.connect(attempt.socket.get()) == 0) {
    tune_connection(attempt.socket.get());
    return finish(Connected{.socket = std::move(attempt.socket), .address = attempt.address});
  }
  if (errno == EAGAIN) {
    attempt.retry = loop_.watch_timer(kBacklogRetry, [this, &attempt] { connect(attempt); });
    return;
  }
  if (errno != EINPROGRESS) return fail(attempt, errno);
  auto watch = loop_.watch_fd(attempt.socket.get(), EPOLLOUT, [this, &attempt](std::uint32_t) {
    if (const int error = pending_error(attempt.socket.get()); error != 0) return fail(attempt, error);
    attempt.watch.cancel();
    tune_connection(attempt.socket.get());
    finish(Connected{.socket = std::move(attempt.socket), .address = attempt.address});
  });
  if (!watch) return fail(attempt, watch.error().system_errno());
  attempt.watch = std::move(*watch);
}

void Dial::fail(Attempt& attempt, int error) {
  last_error_ = error;
  failures_ += fmt::format("{}: {}; ", attempt.address.text(), std::strerror(error));
  attempts_.remove_if([&attempt](const Attempt& other) { return &other == &attempt; });
  next();
}

void Dial::finish(Result<Connected> result) {
  limit_.cancel();
  head_start_.cancel();
  attempts_.clear();
  // The callback may destroy this dial, and with it the callback.
  const OnDone on_done = std::move(on_done_);
  on_done(std::move(result));
}

}  // namespace nitro::proxy
