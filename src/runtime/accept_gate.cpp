// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/accept_gate.h"

#include <sys/epoll.h>

#include <utility>

namespace nitro {
namespace {

// Connections accepted in one round of the loop, so that a flood of clients does not delay everything else. The
// listener stays readable while more wait.
constexpr int kAcceptsPerRound = 16;

}  // namespace

Result<void> AcceptGate::watch(int listener, OnConnection on_connection) {
  NITRO_TRY(watch_, loop_.watch_fd(listener, EPOLLIN, [this](std::uint32_t) { accept_some(); }));
  listener_ = listener;
  on_connection_ = std::move(on_connection);
  return {};
}

Result<void> AcceptGate::open(const std::string& path, unsigned mode, OnConnection on_connection) {
  NITRO_TRY(UnixListener listener, listen_unix(path, mode));
  NITRO_CHECK(watch(listener.fd.get(), std::move(on_connection)));
  own_ = std::move(listener);
  return {};
}

void AcceptGate::close() {
  watch_.cancel();
  pause_.cancel();
  listener_ = -1;
  own_ = UnixListener();
}

void AcceptGate::hold() {
  held_ = true;
  update_watch();
}

void AcceptGate::resume() {
  held_ = false;
  update_watch();
}

void AcceptGate::accept_some() {
  for (int count = 0; count < kAcceptsPerRound && listener_ >= 0 && !held_; ++count) {
    auto socket = accept_unix(listener_);
    if (!socket) {
      pause();
      if (on_failure_) on_failure_(socket.error());
      return;
    }
    if (!socket->valid()) return;
    on_connection_(std::move(*socket));
  }
}

void AcceptGate::pause() {
  paused_ = true;
  update_watch();
  pause_ = loop_.watch_timer(kPause, [this] {
    paused_ = false;
    update_watch();
  });
}

void AcceptGate::update_watch() {
  // Modifying an existing watch does not fail (epoll_ctl(2): EPOLL_CTL_MOD).
  const std::uint32_t events = EPOLLIN;
  static_cast<void>(loop_.update(watch_, held_ || paused_ ? 0 : events));
}

}  // namespace nitro
