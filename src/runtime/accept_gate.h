// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "nitro/fd.h"
#include "nitro/result.h"
#include "src/runtime/event_loop.h"
#include "src/runtime/unix_socket.h"

namespace nitro {

/// A listening Unix socket from which the event loop takes connections.
///
/// A process at its limit of descriptors can neither accept a connection nor turn it away, and the listener stays
/// readable: a loop that waits for that alone would spin. The gate looks again after kPause, and the clients wait in
/// the listener's backlog meanwhile. The same happens when the system is out of files or memory.
class AcceptGate {
 public:
  static constexpr std::chrono::milliseconds kPause{100};

  /// Takes one connection: a stream socket, non-blocking, close-on-exec. May hold or close the gate, but not destroy
  /// it.
  using OnConnection = std::function<void(Fd socket)>;

  /// `loop` must outlive the gate.
  explicit AcceptGate(EventLoop& loop) : loop_(loop) {}
  AcceptGate(const AcceptGate&) = delete;
  AcceptGate& operator=(const AcceptGate&) = delete;
  ~AcceptGate() = default;

  /// Takes connections from `listener`, which is borrowed until close(). Errors: kEpoll.
  Result<void> watch(int listener, OnConnection on_connection);
  /// Listens at `path`, as listen_unix does. Errors: kSocket, kFilePermissions, kEpoll.
  Result<void> open(const std::string& path, unsigned mode, OnConnection on_connection);
  /// Takes no more connections. What open() made listens no more and loses its name; clients in its backlog read the
  /// end of the stream.
  void close();

  /// Leaves clients in the backlog until resume().
  void hold();
  void resume();

 private:
  void accept_some();
  void pause();
  void update_watch();

  EventLoop& loop_;
  OnConnection on_connection_;
  UnixListener own_;   // of open()
  int listener_ = -1;  // borrowed; -1: closed
  EventLoop::Watch watch_;
  EventLoop::Watch pause_;
  bool held_ = false;
  bool paused_ = false;
};

}  // namespace nitro
