// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>

#include "enclave_proc/qemu/vsock/vhost_user.h"
#include "enclave_proc/qemu/vsock/virtqueue.h"
#include "enclave_proc/qemu/vsock/vsock_packet.h"
#include "src/runtime/event_loop.h"

namespace nitro::machine {

/// Programs of the hypervisor itself, which one guest reaches under CIDs that no guest has.
class VsockEndpoint {
 public:
  virtual ~VsockEndpoint() = default;

  /// Takes a packet of the guest; `payload` is as long as its header says. False: nobody has this address, or this
  /// connection, and the guest gets RST.
  virtual bool take(const proc::VsockHeader& header, std::span<const std::byte> payload) = 0;
  /// Returns the next packet for the guest, with its payload at the start of `room`, or nothing.
  virtual std::optional<proc::VsockHeader> next(std::span<std::byte> room) = 0;
  /// The guest's driver is gone, and with it every connection.
  virtual void forget() = 0;
};

class VsockPort;

/// Joins the virtio sockets of guests, as the hypervisor of a Nitro machine does: a packet goes to the guest whose CID
/// is its destination, unchanged but for its size where the receiver's buffers are smaller. Credit, half-closing and
/// resets are thus between the guests alone. Nothing is stored: a guest without receive buffers stops whoever sends to
/// it. Driven by the event loop, which must outlive it.
class VsockSwitch {
 public:
  explicit VsockSwitch(EventLoop& loop);
  VsockSwitch(const VsockSwitch&) = delete;
  VsockSwitch& operator=(const VsockSwitch&) = delete;
  ~VsockSwitch();

  /// Adds a guest; `cid` must be free. The port is the guest's vsock device; destroy it before the switch.
  /// `endpoint`, if any, must outlive it.
  std::unique_ptr<VsockPort> add(std::uint64_t cid, VsockEndpoint* endpoint = nullptr);

  /// Something may be possible that was not: moves packets in the next round of the loop.
  void wake();

 private:
  friend class VsockPort;

  void work();
  [[nodiscard]] VsockPort* running(std::uint64_t cid) const;
  void remove(const VsockPort& port);
  // A packet went from one guest to the other.
  void note(const proc::VsockHeader& header);
  // The guest is gone: those it was connected with must not wait for it.
  void reset_connections_of(std::uint64_t cid);

  EventLoop& loop_;
  std::map<std::uint64_t, VsockPort*> ports_;
  // Connections that a guest has accepted, under the name of the RST that their ends would get: {source CID and port,
  // destination CID and port}, once for each direction.
  std::set<std::array<std::uint64_t, 4>> connections_;
  bool working_ = false;
  bool scheduled_ = false;
  std::shared_ptr<VsockSwitch*> self_;  // deferred calls hold it weakly
};

/// The vsock device of one guest.
class VsockPort final : public proc::VhostUserDevice {
 public:
  VsockPort(const VsockPort&) = delete;
  VsockPort& operator=(const VsockPort&) = delete;
  ~VsockPort() override;

  [[nodiscard]] std::uint64_t device_features() const override { return 0; }
  [[nodiscard]] std::span<const std::byte> config_space() const override { return config_; }
  void started(proc::RunningQueue& receive, proc::RunningQueue& transmit, std::function<void()> on_broken) override;
  void stopped() override;
  void kicked(unsigned index) override;

 private:
  friend class VsockSwitch;
  // A packet that the guest has sent and that has not wholly arrived.
  struct Outgoing {
    proc::DescriptorChain chain;
    proc::VsockHeader header;
    std::size_t done = 0;  // bytes of the payload
  };

  VsockPort(VsockSwitch& owner, std::uint64_t cid, VsockEndpoint* endpoint);
  // Moves what can be moved now, up to a limit; returns whether anything was.
  bool serve();
  bool send_replies();
  bool send_from_endpoint();
  bool forward();
  bool take_next();
  bool deliver_outgoing();
  bool pass_to(VsockPort& target);
  void finish_outgoing();
  void refuse(const proc::VsockHeader& header);
  /// The size of the payload that the guest's next receive buffer takes; nothing if it has provided none.
  std::optional<std::size_t> room();
  /// Fills that buffer.
  void deliver(const proc::VsockHeader& header, std::span<const std::byte> payload);
  void publish();
  [[nodiscard]] bool broken() const;

  VsockSwitch& owner_;
  const std::uint64_t cid_;
  VsockEndpoint* const endpoint_;
  std::array<std::byte, 8> config_{};
  proc::RunningQueue* receive_ = nullptr;
  proc::RunningQueue* transmit_ = nullptr;
  std::function<void()> on_broken_;
  std::optional<proc::DescriptorChain> buffer_;  // the next receive buffer, if it was fetched
  std::optional<Outgoing> outgoing_;
  std::deque<proc::VsockHeader> replies_;  // refusals of packets that this guest has sent
};

}  // namespace nitro::machine
