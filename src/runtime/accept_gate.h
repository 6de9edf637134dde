// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "nitro/fd.h"
#include "nitro/result.h"
#include "src/runtime/event_loop.h"
#include "src/runtime/unix_socket.h"

namespace nitro {

/// Accepts connections from a listening stream socket on the event loop.
///
/// A process at its limit of descriptors can neither accept a connection nor reject it, and the listener stays
/// readable: a loop that simply waits for it would spin. The gate retries after kPause; meanwhile the clients wait in
/// the listener's backlog. It does the same when the system is out of files or memory.
class AcceptGate {
 public:
  static constexpr std::chrono::milliseconds kPause{100};

  /// Takes one connection: a stream socket, non-blocking, close-on-exec. May hold or close the gate, but must not
  /// destroy it.
  using OnConnection = std::function<void(Fd socket)>;

  /// `loop` must outlive the gate.
  explicit AcceptGate(EventLoop& loop) : loop_(loop) {}
  AcceptGate(const AcceptGate&) = delete;
  AcceptGate& operator=(const AcceptGate&) = delete;
  ~AcceptGate() = default;

  /// Accepts connections from `listener`, which is borrowed until close(). Errors: kEpoll.
  Result<void> watch(int listener, OnConnection on_connection);
  /// Listens at `path`, as listen_unix does. Errors: kSocket, kFilePermissions, kEpoll.
  Result<void> open(const std::string& path, unsigned mode, OnConnection on_connection);
  /// Accepts no more connections. A listener made by open() is closed and its name removed; clients in its backlog read
  /// end-of-file.
  void close();

  /// Calls back each time that a connection could not be accepted and the gate pauses. Set it before watch().
  void on_failure(std::function<void(const Error& error)> callback) { on_failure_ = std::move(callback); }

  /// Leaves clients in the backlog until resume().
  void hold();
  void resume();

 private:
  void accept_some();
  void pause();
  void update_watch();

  EventLoop& loop_;
  OnConnection on_connection_;
  std::function<void(const Error&)> on_failure_;
  UnixListener own_;   // of open()
  int listener_ = -1;  // borrowed; -1: closed
  EventLoop::Watch watch_;
  EventLoop::Watch pause_;
  bool held_ = false;
  bool paused_ = false;
};

}  // namespace nitro
