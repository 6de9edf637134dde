// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "byte_ring.h"
#include "enclave_proc/vsock_address.h"
#include "nitro/event_loop.h"
#include "nitro/fd.h"
#include "vhost_user.h"

namespace nitro::proc {

/// Operations of a packet (virtio 1.2, section 5.10.6, and include/uapi/linux/virtio_vsock.h).
enum class VsockOp : std::uint16_t {
  kRequest = 1,
  kResponse = 2,
  kReset = 3,
  kShutdown = 4,
  kData = 5,
  kCreditUpdate = 6,
  kCreditRequest = 7,
};

inline constexpr std::uint16_t kVsockTypeStream = 1;
/// Flags of kShutdown: what the sender of the packet will not do any more (section 5.10.6.6).
inline constexpr std::uint32_t kVsockShutdownReceive = 1;
inline constexpr std::uint32_t kVsockShutdownSend = 2;
inline constexpr std::uint32_t kVsockShutdownBoth = 3;

/// The packet header, 44 bytes, little-endian, in this order.
struct VsockHeader {
  static constexpr std::size_t kSize = 44;

  std::uint64_t source_cid = 0;
  std::uint64_t destination_cid = 0;
  std::uint32_t source_port = 0;
  std::uint32_t destination_port = 0;
  std::uint32_t length = 0;
  std::uint16_t type = kVsockTypeStream;
  std::uint16_t op = 0;
  std::uint32_t flags = 0;
  std::uint32_t buffer_size = 0;  ///< buf_alloc: how much the sender can buffer for this connection
  std::uint32_t forwarded_count =
      0;  ///< fwd_cnt: how much of it has left that buffer, counted since the connection began

  static VsockHeader parse(std::span<const std::byte, kSize> bytes);
  [[nodiscard]] std::array<std::byte, kSize> serialize() const;
};

/// The virtio socket device of one guest: streams between the guest's AF_VSOCK sockets and stream sockets of the host.
///
/// The guest's CID is given; CID 3 and CID 2 are both this host, packets to other CIDs are refused. Every number the
/// guest sends is checked: it can use up its own connections, nothing else. Memory is bounded by kMaxConnections and
/// the buffer of each connection, which is smaller the more there are; data moves between guest memory and sockets
/// without a copy as long as the host reads. Work is done in slices, so that neither a flooding guest nor one busy
/// connection stalls the others or the loop. Single-threaded.
class VirtioVsock : public VhostUserDevice {
 public:
  static constexpr std::size_t kMaxConnections = 4096;

  /// How the host answers a connection of the guest.
  struct DialResult {
    enum class Status {
      kConnected,   ///< `socket` is connected
      kConnecting,  ///< `socket` becomes writable when connect(2) has ended
      kBusy,        ///< somebody listens, but cannot take the connection now: ask again soon
      kRefused,
    };
    Status status = Status::kRefused;
    Fd socket;  ///< a stream socket, non-blocking
  };
  using Dial = std::function<DialResult(std::uint32_t port)>;
  /// The guest has accepted; what is written to `socket` now comes before all that the guest sends. False gives the
  /// connection up.
  using Accepted = std::function<bool(int socket, std::uint32_t host_port)>;

  VirtioVsock(EventLoop& loop, std::uint64_t guest_cid, Dial dial);
  ~VirtioVsock() override;

  /// Connects `socket` (stream, non-blocking) with `guest_port`. When the guest refuses, has no driver yet, or does not
  /// answer within kConnectTimeout, the socket is closed.
  void connect(Fd socket, std::uint32_t guest_port, Accepted accepted);
  static constexpr std::chrono::seconds kConnectTimeout{5};

  [[nodiscard]] std::size_t connection_count() const { return connections_.size() + lingering_.size(); }
  /// Bytes of the guest that wait for the host's programs to read.
  [[nodiscard]] std::size_t buffered_bytes() const { return buffered_bytes_; }

  // VhostUserDevice
  [[nodiscard]] std::uint64_t device_features() const override { return 0; }
  [[nodiscard]] std::span<const std::byte> config_space() const override { return config_; }
  void started(RunningQueue& receive, RunningQueue& transmit) override;
  void stopped() override;
  void kicked(unsigned index) override;

 private:
  using Clock = std::chrono::steady_clock;

  struct Key {
    std::uint32_t guest_port;
    std::uint32_t host_port;
    std::uint64_t host_cid;
    auto operator<=>(const Key&) const = default;
  };

  enum class State {
    kDialing,    // the guest has asked; the host's socket is not connected yet
    kRequested,  // the host has asked; the guest has not answered yet
    kOpen,
    kLingering,  // the guest is done; what it sent last is still to be delivered
  };

  struct Connection {
    Connection(const Key& name, State initial, std::uint32_t buffer_bytes)
        : key(name), state(initial), buffer_size(buffer_bytes), buffer(buffer_bytes) {}

    const Key key;
    State state;
    Fd socket;
    EventLoop::Watch watch;
    Accepted accepted;
    std::optional<Clock::time_point> deadline;
    bool busy = false;  // kDialing: to be dialled again

    // Guest to host. 32-bit counters wrap, as the specification has it.
    const std::uint32_t buffer_size;   // ours, as announced
    std::uint32_t received = 0;        // bytes the guest has sent
    std::uint32_t forwarded = 0;       // of these, written to the socket
    std::uint32_t announced = 0;       // the last `forwarded` that the guest was told
    ByteRing buffer;                   // what the socket did not take yet
    bool host_reads = true;            // false: writing to the socket failed for good
    std::uint32_t guest_shutdown = 0;  // flags of the guest's SHUTDOWN packets

    // Host to guest.
    std::uint32_t peer_buffer_size = 0;
    std::uint32_t peer_forwarded = 0;
    std::uint32_t sent = 0;
    bool readable = false;       // the socket may have bytes, or its end
    bool end_announced = false;  // no event will tell of the end again: read until it comes
    bool closed = false;         // the other end is gone, for reading and writing
    bool host_finished = false;  // the end has been read
    bool credit_requested = false;
    std::uint32_t shutdown_sent = 0;

    // Packets that are due.
    bool due_request = false;
    bool due_response = false;
    bool due_credit_update = false;
    bool due_credit_request = false;
    std::uint32_t due_shutdown = 0;
    bool in_ready = false;

    [[nodiscard]] std::uint32_t credit() const;
    [[nodiscard]] bool can_send_data() const;
    [[nodiscard]] bool has_work() const;
  };
  enum class Sent { kSomething, kNothing, kNoBuffer };

  // Guest to host.
  void process_transmit_queue();
  void handle_packet(const DescriptorChain& chain);
  void handle_request(const VsockHeader& header);
  void handle_connection_packet(Connection& connection, const VsockHeader& header);
  void receive_data(Connection& connection, std::uint32_t length);
  // Writes from pieces_, dropping what was written, until the socket is full. False: it takes data no more.
  bool write_pieces(Connection& connection);
  void flush(Connection& connection);
  void guest_has_shut_down(Connection& connection);

  // Host to guest.
  void serve_receive_queue();
  Sent serve(Connection& connection);
  Sent send_data(Connection& connection);
  // False when the driver has given us no buffer.
  bool send_packet(const VsockHeader& header);
  bool next_receive_chain(DescriptorChain& chain);
  void complete_receive(std::uint16_t head, std::uint32_t written);
  VsockHeader header_for(Connection& connection, VsockOp op);

  // Host's sockets.
  bool watch_socket(Connection& connection);
  void on_socket(Connection& connection, std::uint32_t events);
  void dial(Connection& connection);
  void opened_by_guest(Connection& connection);
  void finish_host_side(Connection& connection);
  void host_stopped_reading(Connection& connection);

  // Life.
  Connection* find(const Key& key);
  Connection& add(const Key& key, State state);
  void make_ready(Connection& connection);
  void queue_reset(const VsockHeader& received);
  void reset(Connection& connection);
  void remove(Connection& connection);
  void remove_or_linger(Connection& connection);
  void set_deadline(Connection& connection, Clock::duration timeout);
  void clear_deadline(Connection& connection);
  void on_tick();
  void work();
  void schedule_work();
  [[nodiscard]] std::uint32_t buffer_size_for_new_connection() const;

  EventLoop& loop_;
  const std::uint64_t guest_cid_;
  const Dial dial_;
  std::array<std::byte, 8> config_{};

  RunningQueue* receive_ = nullptr;
  RunningQueue* transmit_ = nullptr;
  bool transmit_pending_ = false;

  std::map<Key, std::unique_ptr<Connection>> connections_;
  std::map<Connection*, std::unique_ptr<Connection>> lingering_;
  std::deque<Connection*> ready_;             // connections that have something for the guest; null: removed meanwhile
  std::deque<VsockHeader> replies_;           // packets without a connection
  std::set<Connection*, std::less<>> timed_;  // connections that have a deadline or are dialled again
  const Connection* last_dialled_ = nullptr;  // may be gone; only its place in timed_ matters
  EventLoop::Watch tick_;
  std::size_t buffered_bytes_ = 0;
  std::uint32_t next_host_port_;

  // Reused, so that the packet path does not allocate.
  DescriptorChain transmit_chain_;
  std::vector<DescriptorChain> receive_chains_;
  std::vector<iovec> pieces_;
  // What this round has done, for its limits.
  std::size_t chains_filled_ = 0;
  std::size_t bytes_taken_ = 0;

  bool working_ = false;
  bool work_scheduled_ = false;
  std::shared_ptr<VirtioVsock*> self_;  // deferred calls hold it weakly
};

}  // namespace nitro::proc
