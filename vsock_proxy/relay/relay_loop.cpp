// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/relay/relay_loop.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>

#include "vsock_proxy/sockets/socket_address.h"

namespace nitro::proxy {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::uint32_t kEvents = EPOLLIN | EPOLLRDHUP | EPOLLET;
/// Only while a socket takes nothing: otherwise each piece that its peer reads would be an event.
constexpr std::uint32_t kEventsWithSpace = kEvents | EPOLLOUT;

enum class Progress {
  kWaiting,   // for an event
  kMore,      // the turn is used up
  kFinished,  // end-of-file was passed on
  kBroken,    // the connection cannot go on
};

}  // namespace

class RelayLoop::Relay {
 public:
  Relay(EventLoop& loop, RelayJob job, std::list<std::unique_ptr<Relay>>::iterator place)
      : place_(place),
        client_{.loop = loop, .fd = std::move(job.client), .watch = {}},
        server_{.loop = loop, .fd = std::move(job.server), .watch = {}},
        to_server_{.from = client_, .to = server_, .moved = job.traffic->to_server, .held = std::move(job.from_client)},
        to_client_{.from = server_, .to = client_, .moved = job.traffic->to_client, .held = {}},
        traffic_(std::move(job.traffic)),
        on_end_(std::move(job.on_end)),
        idle_time_(job.idle_time) {}

  Result<void> watch(const std::function<void()>& on_event) {
    for (Socket* socket : {&client_, &server_}) {
      NITRO_TRY(socket->watch,
                socket->loop.watch_fd(socket->fd.get(), kEvents, [socket, on_event](std::uint32_t events) {
                  socket->note(events);
                  on_event();
                }));
    }
    return {};
  }

  /// Moves what can be moved. After a reset that is what had arrived before it, as far as the other side takes it now.
  Progress pump(std::span<std::byte> buffer) {
    if (idle_time_.count() > 0) last_moved_ = Clock::now();
    const Progress one = to_server_.pump(buffer);
    const Progress other = one == Progress::kBroken ? one : to_client_.pump(buffer);
    if (one == Progress::kBroken || other == Progress::kBroken) return Progress::kBroken;
    if (one == Progress::kMore || other == Progress::kMore) return Progress::kMore;
    if (client_.failed || server_.failed) return Progress::kBroken;
    if (one == Progress::kFinished && other == Progress::kFinished) return Progress::kFinished;
    return Progress::kWaiting;
  }

  void close(RelayEnd how) {
    for (Socket* socket : {&client_, &server_}) {
      if (how == RelayEnd::kReset) reset_on_close(socket->fd.get());
      socket->watch.cancel();
      socket->fd.reset();
    }
    if (on_end_) on_end_(how);
  }

  bool queued = false;  // in one of the lists of RelayLoop

  [[nodiscard]] bool has_early_bytes() const { return !to_server_.held.empty(); }
  [[nodiscard]] bool has_idle_time() const { return idle_time_.count() > 0; }
  [[nodiscard]] bool is_idle(Clock::time_point now) const { return has_idle_time() && now - last_moved_ >= idle_time_; }
  [[nodiscard]] std::list<std::unique_ptr<Relay>>::iterator place() const { return place_; }

 private:
  struct Socket {
    EventLoop& loop;
    Fd fd;
    EventLoop::Watch watch;
    // What is known since the last event; edge-triggered, so it holds until a call says otherwise.
    bool readable = false;
    bool writable = true;
    bool ended = false;   // the peer sends no more, though there may be bytes to read
    bool failed = false;  // the kernel holds an error

    void note(std::uint32_t events) {
      if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable = true;
      if (!writable && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) {
        writable = true;
        // Changing a watch that exists does not fail (epoll_ctl(2)); so below.
        static_cast<void>(loop.update(watch, kEvents));
      }
      if ((events & (EPOLLRDHUP | EPOLLHUP)) != 0) ended = true;
      // Not left to the next read: there is none while the other side is slow.
      if ((events & EPOLLERR) != 0 && pending_error(fd.get()) != 0) failed = true;
    }

    void wait_for_space() {
      writable = false;
      static_cast<void>(loop.update(watch, kEventsWithSpace));
    }
  };

  /// One direction.
  struct Flow {
    Socket& from;
    Socket& to;
    std::atomic<std::uint64_t>& moved;
    std::vector<std::byte> held;  // read, but not taken by `to` yet
    std::size_t written = 0;      // of `held`
    bool finished = false;

    Progress pump(std::span<std::byte> buffer) {
      if (finished) return Progress::kFinished;
      for (std::size_t budget = kBytesPerTurn; to.writable;) {
        if (!held.empty()) {
          const auto rest = std::span(held).subspan(written);
          const ssize_t count = write(rest);
          if (count < 0) return Progress::kBroken;
          written += static_cast<std::size_t>(count);
          if (written < held.size()) return Progress::kWaiting;
          // Gives the memory back: a connection that only waits holds none.
          held = {};
          written = 0;
        }
        if (!from.readable) return Progress::kWaiting;
        if (budget == 0) return Progress::kMore;
        const ssize_t count = ::recv(from.fd.get(), buffer.data(), std::min(buffer.size(), budget), 0);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
          from.readable = false;
          return Progress::kWaiting;
        }
        if (count < 0) return Progress::kBroken;
        // After a reset, the end of what had arrived is not the end of the stream.
        if (count == 0) return from.failed ? Progress::kBroken : finish();
        const auto bytes = buffer.first(static_cast<std::size_t>(count));
        // A short read has emptied the socket, and new bytes are a new event (epoll(7)); but the end of the stream may
        // be known already.
        if (bytes.size() < std::min(buffer.size(), budget) && !from.ended) from.readable = false;
        budget -= bytes.size();
        const ssize_t sent = write(bytes);
        if (sent < 0) return Progress::kBroken;
        const auto rest = bytes.subspan(static_cast<std::size_t>(sent));
        held.assign(rest.begin(), rest.end());
      }
      return Progress::kWaiting;
    }

    /// Passes the end of the stream on.
    Progress finish() {
      finished = true;
      // Fails if the connection is gone; then the other direction notices.
      ::shutdown(to.fd.get(), SHUT_WR);
      return Progress::kFinished;
    }

    /// Returns the number of bytes taken; -1: no more can be written. If not all were taken, `to` is not writable.
    ssize_t write(std::span<const std::byte> bytes) {
      std::size_t done = 0;
      while (done < bytes.size()) {
        const ssize_t count = ::send(to.fd.get(), bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
          to.wait_for_space();
          break;
        }
        if (count < 0) return -1;
        done += static_cast<std::size_t>(count);
      }
      moved.fetch_add(done, std::memory_order_relaxed);
      return static_cast<ssize_t>(done);
    }
  };

  std::list<std::unique_ptr<Relay>>::iterator place_;
  Socket client_;
  Socket server_;
  Flow to_server_;
  Flow to_client_;
  std::shared_ptr<Traffic> traffic_;  // holds what the flows count in
  std::function<void(RelayEnd)> on_end_;
  std::chrono::seconds idle_time_;
  Clock::time_point last_moved_ = Clock::now();
};

RelayLoop::RelayLoop(EventLoop& loop) : loop_(loop), buffer_(new std::byte[kBufferBytes]) {}

RelayLoop::~RelayLoop() {
  while (!relays_.empty()) end(*relays_.front(), RelayEnd::kReset);
}

void RelayLoop::add(RelayJob job) {
  const auto place = relays_.insert(relays_.end(), nullptr);
  *place = std::make_unique<Relay>(loop_, std::move(job), place);
  Relay& relay = **place;
  if (!relay.watch([this, &relay] { settle(relay); })) return end(relay, RelayEnd::kReset);
  // What was read from the client already needs no event.
  if (relay.has_early_bytes()) again(relay);
  if (relay.has_idle_time() && !idle_timer_.active()) {
    idle_timer_ = loop_.watch_timer(
        std::chrono::seconds(1), [this] { end_idle(); }, true);
  }
}

void RelayLoop::settle(Relay& relay) {
  switch (relay.pump(std::span(buffer_.get(), kBufferBytes))) {
    case Progress::kWaiting:
      return;
    case Progress::kMore:
      return again(relay);
    case Progress::kFinished:
      return end(relay, RelayEnd::kClosed);
    case Progress::kBroken:
      return end(relay, RelayEnd::kReset);
  }
}

void RelayLoop::end(Relay& relay, RelayEnd how) {
  if (relay.queued) std::replace(turn_.begin(), turn_.end(), &relay, static_cast<Relay*>(nullptr));
  if (relay.queued) std::erase(again_, &relay);
  const auto owned = std::move(*relay.place());
  relays_.erase(relay.place());
  owned->close(how);
}

void RelayLoop::again(Relay& relay) {
  if (std::exchange(relay.queued, true)) return;
  again_.push_back(&relay);
  if (again_.size() > 1) return;
  loop_.defer([this, alive = std::weak_ptr(alive_)] {
    if (!alive.expired()) take_turns();
  });
}

void RelayLoop::take_turns() {
  // settle() may put a relay back into the list for the next round, and end() removes one from both lists.
  turn_ = std::exchange(again_, {});
  for (std::size_t i = 0; i < turn_.size(); ++i) {
    if (Relay* relay = std::exchange(turn_[i], nullptr)) {
      relay->queued = false;
      settle(*relay);
    }
  }
  turn_.clear();
}

void RelayLoop::end_idle() {
  const auto now = Clock::now();
  bool needed = false;
  for (auto at = relays_.begin(); at != relays_.end();) {
    Relay& relay = **at++;
    needed |= relay.has_idle_time();
    if (relay.is_idle(now)) end(relay, RelayEnd::kIdle);
  }
  if (!needed) idle_timer_.cancel();
}

}  // namespace nitro::proxy
