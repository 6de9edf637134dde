// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "src/runtime/event_loop.h"

namespace nitro::proc {

/// Waits for the heartbeat of one enclave: its init connects to port 9000 of the parent, sends one byte (kHeartbeat)
/// and waits for the same byte in reply. The enclave's first connection decides. Connections from anyone else, who
/// could fake or spoil a boot, are closed.
///
/// Passive: everything happens on the thread of the loop. Has no time limit; the caller sets one.
class Heartbeat {
 public:
  /// Exactly one of the two is called, once; the callback may destroy the Heartbeat.
  struct Events {
    std::function<void()> on_beat;                              ///< the heartbeat came and was answered
    std::function<void(const std::string& reason)> on_failure;  ///< something else came
  };

  /// Creates a non-blocking socket that listens at CID 3, port 9000 of AF_VSOCK. Call it before the enclave starts,
  /// which does not try for long. Errors: kEnclaveBoot.
  static Result<Fd> listen();

  /// Whether a connected socket comes from the enclave.
  using IsEnclave = std::function<bool(int connection)>;
  /// For AF_VSOCK: accepts connections from `cid`, and from this host, which could send with any CID anyway: machines
  /// that emulate an enclave send from there.
  static IsEnclave from_cid(std::uint64_t cid);

  /// Starts waiting at `listener`, a non-blocking listening stream socket. Errors: kEpoll.
  static Result<std::unique_ptr<Heartbeat>> wait(EventLoop& loop, Fd listener, IsEnclave is_enclave, Events events);

  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;
  ~Heartbeat() = default;

 private:
  Heartbeat(EventLoop& loop, Fd listener, IsEnclave is_enclave, Events events)
      : loop_(loop), listener_(std::move(listener)), is_enclave_(std::move(is_enclave)), events_(std::move(events)) {}

  void on_connection();
  void on_data();
  void finish(const std::string& failure);

  EventLoop& loop_;
  // The watches come last: they are cancelled before their descriptors are closed.
  Fd listener_;
  Fd connection_;
  IsEnclave is_enclave_;
  Events events_;
  EventLoop::Watch listener_watch_;
  EventLoop::Watch connection_watch_;
};

}  // namespace nitro::proc
