// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "src/runtime/event_loop.h"

namespace nitro::proc {

/// Waits for the sign of life of one enclave: its init connects to port 9000 of the parent, sends one byte (kHeartbeat)
/// and waits until the same byte comes back. The enclave's first connection decides; those of others, who could fake a
/// boot or spoil one, are closed.
///
/// Passive: everything happens on the thread of the loop. There is no time limit here; the caller has one.
class Heartbeat {
 public:
  /// Exactly one of the two is called, once; the Heartbeat may be destroyed in it.
  struct Events {
    std::function<void()> on_beat;                              ///< has come, and was answered
    std::function<void(const std::string& reason)> on_failure;  ///< something else has come
  };

  /// A listening socket at CID 3, port 9000 of AF_VSOCK; non-blocking. To be made before the enclave starts, which does
  /// not try for long. Errors: kEnclaveBoot.
  static Result<Fd> listen();

  /// Whether a connected socket comes from the enclave.
  using IsEnclave = std::function<bool(int connection)>;
  /// For sockets of AF_VSOCK: the one that comes from this CID. Or from the host of this machine, which could send with
  /// any CID: machines that only play the enclave send from there.
  static IsEnclave from_cid(std::uint64_t cid);

  /// Starts to wait at `listener`, a listening non-blocking stream socket. Errors: kEpoll.
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
  // Watches come last: they are cancelled before their descriptors are closed.
  Fd listener_;
  Fd connection_;
  IsEnclave is_enclave_;
  Events events_;
  EventLoop::Watch listener_watch_;
  EventLoop::Watch connection_watch_;
};

}  // namespace nitro::proc
