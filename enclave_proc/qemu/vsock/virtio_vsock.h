// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "enclave_proc/machine/vsock_address.h"
#include "enclave_proc/qemu/vsock/host_stream.h"
#include "enclave_proc/qemu/vsock/vhost_user.h"
#include "enclave_proc/qemu/vsock/vsock_connection.h"
#include "enclave_proc/qemu/vsock/vsock_packet.h"
#include "nitro/fd.h"
#include "src/runtime/event_loop.h"

namespace nitro::proc {

/// The virtio socket device of one guest: streams between the guest's AF_VSOCK sockets and stream sockets of the host.
///
/// It carries packets between the two queues and the connections, each of which is a VsockConnection (the protocol) and
/// a HostStream (the host's socket). It enforces the limits itself: the number of connections, the memory, and the
/// order of service.
///
/// The guest's CID is fixed; CID 3 and CID 2 both mean this host, and packets to other CIDs are refused. Every number
/// from the guest is checked: the guest can exhaust its own connections, nothing else. Memory is bounded by
/// kMaxConnections and by the buffer of each connection, which shrinks as their number grows; data moves between guest
/// memory and sockets without a copy as long as the host reads. Work is done in slices, so that neither a flooding
/// guest nor one busy connection stalls the others or the loop. Single-threaded.
class VirtioVsock : public VhostUserDevice {
 public:
  static constexpr std::size_t kMaxConnections = 4096;
  /// Bytes moved for one connection in one turn, so that every connection gets its turn soon.
  static constexpr std::size_t kBytesPerTurn = std::size_t{128} * 1024;
  /// Refusals waiting for receive buffers. At this limit nothing more is read from the guest, until it provides
  /// buffers.
  static constexpr std::size_t kMaxReplies = 1024;

  /// How the host answers a connection of the guest.
  struct DialResult {
    enum class Status {
      kConnected,   ///< `socket` is connected
      kConnecting,  ///< `socket` becomes writable when connect(2) has finished
      kBusy,        ///< there may be a listener, but it cannot accept the connection now: try again soon
      kRefused,
    };
    Status status = Status::kRefused;
    Fd socket;  ///< a stream socket, non-blocking
  };
  using Dial = std::function<DialResult(std::uint32_t port)>;
  /// Called when the guest has accepted; bytes written to `socket` now precede everything the guest sends. Returns
  /// false to abort the connection.
  using Accepted = std::function<bool(int socket, std::uint32_t host_port)>;

  using Clock = VsockConnection::Clock;
  /// Returns the current time.
  using Now = std::function<Clock::time_point()>;

  VirtioVsock(EventLoop& loop, std::uint64_t guest_cid, Dial dial, Now now = Clock::now);
  ~VirtioVsock() override;

  /// Connects `socket` (stream, non-blocking) to `guest_port`. The socket is closed if the guest refuses, has no driver
  /// yet, or does not answer within VsockConnection::kConnectTimeout.
  void connect(Fd socket, std::uint32_t guest_port, Accepted accepted);

  [[nodiscard]] std::size_t connection_count() const { return links_.size() + lingering_.size(); }
  /// Bytes of the guest that the host's programs have not read yet.
  [[nodiscard]] std::size_t buffered_bytes() const { return buffered_bytes_; }

  // VhostUserDevice
  [[nodiscard]] std::uint64_t device_features() const override { return 0; }
  [[nodiscard]] std::span<const std::byte> config_space() const override { return config_; }
  void started(RunningQueue& receive, RunningQueue& transmit, std::function<void()> on_broken) override;
  void stopped() override;
  void kicked(unsigned index) override;

 private:
  /// A connection and its socket.
  struct Link {
    explicit Link(VsockConnection opened) : connection(opened), stream(opened.buffer_bytes()) {}
    VsockConnection connection;
    HostStream stream;
    EventLoop::Watch watch;
    Accepted accepted;
    bool busy = false;  // to be dialled again
    bool in_ready = false;
  };
  /// The remains of a closed connection: bytes of the guest that the host has still to read.
  struct Rest {
    explicit Rest(HostStream left) : stream(std::move(left)) {}
    HostStream stream;
    EventLoop::Watch watch;
  };
  enum class Sent { kSomething, kNothing, kNoBuffer };

  // Guest to host.
  void process_transmit_queue();
  void handle_packet(const DescriptorChain& chain);
  void handle_request(const VsockHeader& header);
  void handle_connection_packet(Link& link, const VsockHeader& header);
  void accept(Link& link);
  void deliver(Link& link);
  void count_written(Link& link, std::size_t buffered_before, const HostStream::Written& written);
  void queue_reset(const VsockHeader& received);

  // Host to guest.
  void serve_receive_queue();
  bool serve_next();
  Sent serve(Link& link);
  Sent send_control(Link& link, VsockOp op);
  Sent send_data(Link& link);
  /// Gathers buffers of the driver for up to `limit` bytes of data into pieces_ and payload_room_.
  struct Batch {
    std::size_t chains = 0;
    std::size_t room = 0;
  };
  Batch gather_buffers(std::size_t limit);
  void add_buffer(const DescriptorChain& chain, std::size_t room);
  // Returns false when the driver has provided no buffer.
  bool send_packet(const VsockHeader& header);
  bool next_receive_chain(DescriptorChain& chain);
  void complete_receive(std::uint16_t head, std::uint32_t written);

  // Sockets of the host.
  bool watch_socket(Link& link);
  void on_socket(Link& link, std::uint32_t events);
  void on_dialled(Link& link);
  void dial(Link& link);
  void flush(Link& link);

  // Lifetime.
  Link& add(const VsockConnection& connection);
  // Applies the effect of an event: closes the connection or queues it as ready, and updates its deadline.
  void settle(Link& link, VsockConnection::Action action = VsockConnection::Action::kNothing);
  void reset(Link& link);
  void remove(Link& link);
  void linger(HostStream stream);
  void on_tick();
  void work();
  void schedule_work();
  [[nodiscard]] std::uint32_t buffer_size_for_new_connection() const;

  EventLoop& loop_;
  const std::uint64_t guest_cid_;
  const Dial dial_;
  const Now now_;
  std::array<std::byte, 8> config_{};

  RunningQueue* receive_ = nullptr;
  RunningQueue* transmit_ = nullptr;
  std::function<void()> on_broken_;
  bool transmit_pending_ = false;

  std::map<VsockName, std::unique_ptr<Link>> links_;
  std::map<const Rest*, std::unique_ptr<Rest>> lingering_;
  std::deque<Link*> ready_;             // links with something to send to the guest; null: removed meanwhile
  std::deque<VsockHeader> replies_;     // packets without a connection
  std::set<Link*, std::less<>> timed_;  // links whose connection has a deadline
  const Link* last_dialled_ = nullptr;  // may dangle; only its position in timed_ matters
  EventLoop::Watch tick_;
  std::size_t buffered_bytes_ = 0;
  std::uint32_t next_host_port_;

  // Reused, so that the packet path does not allocate.
  DescriptorChain transmit_chain_;
  std::vector<DescriptorChain> receive_chains_;
  std::vector<std::uint32_t> payload_room_;  // for each of receive_chains_
  std::vector<iovec> pieces_;
  // Work done in this round, for its limits.
  std::size_t chains_filled_ = 0;
  std::size_t bytes_taken_ = 0;

  bool working_ = false;
  bool work_scheduled_ = false;
  std::shared_ptr<VirtioVsock*> self_;  // deferred calls hold it weakly
};

}  // namespace nitro::proc
