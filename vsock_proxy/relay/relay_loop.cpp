// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/relay/relay_loop.h"

#include <algorithm>
#include <span>
#include <utility>

#include "vsock_proxy/relay/flow.h"
#include "vsock_proxy/sockets/socket_address.h"

namespace nitro::proxy {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

class RelayLoop::Relay {
 public:
  Relay(EventLoop& loop, RelayJob job, std::list<std::unique_ptr<Relay>>::iterator place)
      : place_(place),
        client_{.loop = loop, .fd = std::move(job.client), .watch = {}},
        server_{.loop = loop, .fd = std::move(job.server), .watch = {}},
        to_server_(client_, server_, job.traffic->to_server, std::move(job.from_client)),
        to_client_(server_, client_, job.traffic->to_client, {}),
        traffic_(std::move(job.traffic)),
        on_end_(std::move(job.on_end)),
        idle_time_(job.idle_time) {}

  Result<void> watch(const std::function<void()>& on_event) {
    NITRO_CHECK(client_.start(on_event));
    return server_.start(on_event);
  }

  /// Moves what can be moved. After a reset that is what had arrived before it, as far as the other side takes it now.
  Progress pump(const Means& means) {
    if (idle_time_.count() > 0) last_moved_ = Clock::now();
    const Progress one = to_server_.pump(means, kBytesPerTurn);
    const Progress other = one == Progress::kBroken ? one : to_client_.pump(means, kBytesPerTurn);
    if (one == Progress::kBroken || other == Progress::kBroken) return Progress::kBroken;
    if (one == Progress::kMore || other == Progress::kMore) return Progress::kMore;
    if (client_.failed || server_.failed) return Progress::kBroken;
    if (one == Progress::kFinished && other == Progress::kFinished) return Progress::kFinished;
    return Progress::kWaiting;
  }

  void close(RelayEnd how) {
    for (RelaySocket* socket : {&client_, &server_}) {
      if (how == RelayEnd::kReset) reset_on_close(socket->fd.get());
      socket->watch.cancel();
      socket->fd.reset();
    }
    if (on_end_) on_end_(how);
  }

  bool queued = false;  // in one of the lists of RelayLoop

  [[nodiscard]] bool has_early_bytes() const { return to_server_.holds_bytes(); }
  [[nodiscard]] bool has_idle_time() const { return idle_time_.count() > 0; }
  [[nodiscard]] bool is_idle(Clock::time_point now) const { return has_idle_time() && now - last_moved_ >= idle_time_; }
  [[nodiscard]] std::list<std::unique_ptr<Relay>>::iterator place() const { return place_; }

 private:
  std::list<std::unique_ptr<Relay>>::iterator place_;
  RelaySocket client_;
  RelaySocket server_;
  Flow to_server_;
  Flow to_client_;
  std::shared_ptr<Traffic> traffic_;  // holds what the flows count in
  std::function<void(RelayEnd)> on_end_;
  std::chrono::seconds idle_time_;
  Clock::time_point last_moved_ = Clock::now();
};

RelayLoop::RelayLoop(EventLoop& loop, std::size_t pipes)
    : loop_(loop), buffer_(new std::byte[kBufferBytes]), pipes_(pipes, kBufferBytes) {}

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
  switch (relay.pump({.buffer = std::span(buffer_.get(), kBufferBytes), .pipes = pipes_})) {
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
