// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>

#include "enclave_proc/qemu/vsock/host_stream.h"
#include "enclave_proc/qemu/vsock/vsock_connection.h"
#include "nitro/fd.h"
#include "src/runtime/event_loop.h"
#include "tests/machine/vsock_switch.h"

namespace nitro::machine {

/// Connects one guest's AF_VSOCK sockets with stream sockets of this process: the consoles of enclaves, which the
/// hypervisor serves, and heartbeats of enclaves that do not exist. Driven by the event loop.
class HostEndpoint final : public VsockEndpoint {
 public:
  /// Answers a connection of the guest to `cid` and `port` with one end of a connected stream socket, or refuses it.
  using Accept = std::function<std::optional<Fd>(std::uint64_t cid, std::uint32_t port)>;

  /// `on_due` is called when next() may have a packet: VsockSwitch::wake().
  HostEndpoint(EventLoop& loop, std::uint64_t guest_cid, Accept accept, std::function<void()> on_due);

  /// Connects `socket` (a stream socket, non-blocking) to a port of the guest, as a program of the guest `from_cid`
  /// would. The socket is closed if the guest refuses or does not answer.
  void connect(Fd socket, std::uint64_t from_cid, std::uint32_t guest_port);
  /// Resets the connections with this CID.
  void close_all_of(std::uint64_t cid);

  bool take(const proc::VsockHeader& header, std::span<const std::byte> payload) override;
  std::optional<proc::VsockHeader> next(std::span<std::byte> room) override;
  void forget() override;

 private:
  struct Link {
    explicit Link(proc::VsockConnection opened) : connection(opened), stream(opened.buffer_bytes()) {}
    proc::VsockConnection connection;
    proc::HostStream stream;
    EventLoop::Watch watch;
  };
  using Links = std::map<proc::VsockName, std::unique_ptr<Link>>;

  bool add(const proc::VsockConnection& connection, Fd socket);
  void on_socket(Link& link, std::uint32_t events);
  void deliver(Link& link, std::span<const std::byte> payload);
  void settle(Link& link, proc::VsockConnection::Action action);
  std::optional<proc::VsockHeader> next_of(Link& link, std::span<std::byte> room);
  void on_tick();

  EventLoop& loop_;
  const std::uint64_t guest_cid_;
  const Accept accept_;
  const std::function<void()> on_due_;
  Links links_;
  std::deque<proc::VsockHeader> resets_;
  std::uint32_t next_port_;
  EventLoop::Watch tick_;
};

}  // namespace nitro::machine
