// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <optional>

#include "enclave_proc/qemu/vsock/vsock_packet.h"

namespace nitro::proc {

// A vsock connection, from the device's point of view. Sources: virtio 1.2, section 5.10; and the Linux driver, whose
// behaviour is part of the contract (net/vmw_vsock/virtio_transport_common.c, "common.c" below).
//
// Name. Two CIDs and two ports (5.10.6.2). A name identifies one connection until that is closed; then it may be
// reused.
//
// Opening. One side sends REQUEST, the other answers RESPONSE or RST (5.10.6.5).
//
//     guest asks:  REQUEST ->  kDialing --host's socket is connected-->  <- RESPONSE  kOpen
//                                       --refused, or too late-------->  <- RST
//     host asks:   <- REQUEST  kRequested --RESPONSE ->  kOpen
//                                         --RST ->, or too late: closed; a late guest gets <- RST
//
// Credit (5.10.6.3). Each packet states the size of its sender's receive buffer and how many bytes have left that
// buffer since the connection began. Bytes that were sent and have not left the buffer must never exceed its size:
//
//     credit = buffer size - (sent - forwarded count)        counters of 32 bits that wrap
//
// Control packets need no credit. A side without credit may send CREDIT_REQUEST and gets a CREDIT_UPDATE; we ask once
// and wait. We send CREDIT_UPDATE unasked when a quarter of our buffer has become free since the guest was last told
// the credit, which every packet does, whatever its operation (common.c: virtio_transport_inc_tx_pkt). A guest that
// sends more than fits has broken the rules: RST. A guest that claims to have forwarded more than it got, or shrinks
// its buffer below what is in flight, has no credit.
//
// Half-closing (5.10.6.6). The flags of SHUTDOWN say what its sender will no longer do: receive, send, or both. Flags
// are never withdrawn, and later packets add to them. Bytes in flight when a side stops receiving are dropped, and
// count as forwarded.
//
// Closing. SHUTDOWN with both flags asks for the end, RST is the end. Linux answers a full SHUTDOWN with RST, and waits
// 8 s for the RST to its own (common.c: VSOCK_CLOSE_TIMEOUT); so do we. RST has no answer, and nothing follows it. A
// packet of an unknown connection is answered with RST, unless it is RST itself (common.c:
// virtio_transport_reset_no_sock).

/// The name of a connection.
struct VsockName {
  std::uint64_t guest_cid = 0;
  std::uint64_t host_cid = 0;
  std::uint32_t guest_port = 0;
  std::uint32_t host_port = 0;
  auto operator<=>(const VsockName&) const = default;
};

/// The state of one connection: events go in, packets come out. It has no sockets or queues, and the caller passes the
/// time. The caller
///
/// - passes each packet of the guest and each event of the host's socket to it, and carries out the returned action;
/// - calls due() for the next packet, and sent() once the guest has it: a packet that finds no buffer stays due.
class VsockConnection {
 public:
  using Clock = std::chrono::steady_clock;

  enum class State {
    kDialing,    ///< the guest has asked; the host's socket is not connected yet
    kRequested,  ///< the host has asked; the guest has not answered yet
    kOpen,
    kClosed,  ///< nothing is sent or accepted any more
  };

  /// What the caller must do.
  enum class Action {
    kNothing,
    kAccept,    ///< the guest has accepted: tell the host's program
    kDeliver,   ///< the packet's payload goes to the host's program, then call delivered()
    kShutdown,  ///< guest_receives() or guest_sends() has changed: shut down the host's socket accordingly
    kReset,     ///< the connection is over: send reset_packet()
    kForget,    ///< the connection is over, and the guest need not be told
  };

  static constexpr std::chrono::seconds kDialTimeout{2};
  static constexpr std::chrono::seconds kConnectTimeout{5};
  static constexpr std::chrono::seconds kCloseTimeout{8};

  /// Creates a connection that the guest requested. `buffer_bytes`: how many bytes of the guest we promise to buffer
  /// until the host reads them.
  static VsockConnection asked_by_guest(const VsockHeader& request, std::uint32_t buffer_bytes, Clock::time_point now);
  /// Creates a connection that a host program requested; REQUEST is due.
  static VsockConnection asked_by_host(const VsockName& name, std::uint32_t buffer_bytes, Clock::time_point now);

  [[nodiscard]] const VsockName& name() const { return name_; }
  [[nodiscard]] State state() const { return state_; }
  [[nodiscard]] std::uint32_t buffer_bytes() const { return buffer_bytes_; }

  // Events of the guest.

  /// Takes a packet with this connection's name, whose payload is as long as its header says.
  Action take(const VsockHeader& packet);
  /// `bytes` of the guest have been written to the host's socket, either directly or from the buffer.
  void delivered(std::uint32_t bytes);
  /// Whether the guest will still read / write.
  [[nodiscard]] bool guest_receives() const { return (guest_shutdown_ & kVsockShutdownReceive) == 0; }
  [[nodiscard]] bool guest_sends() const { return (guest_shutdown_ & kVsockShutdownSend) == 0; }

  // Events of the host's socket.

  /// In kDialing: the socket is connected.
  void host_connected();
  /// The socket may have bytes to read, or be at its end.
  void host_readable() { readable_ = true; }
  /// The socket has nothing to read for now; host_readable() follows.
  void host_drained() { readable_ = false; }
  /// The end of the socket's input has been read.
  void host_finished();
  /// The socket accepts no more bytes. Whatever the guest has sent and still sends is dropped.
  void host_stopped_reading();
  /// The socket's other end is closed in both directions; there may still be bytes to read.
  Action host_hung_up();
  [[nodiscard]] bool host_reads() const { return host_reads_; }

  // Time.

  /// When expire() must be called.
  [[nodiscard]] std::optional<Clock::time_point> deadline() const { return deadline_; }
  Action expire();

  // Packets.

  /// Returns the next packet for the guest. For kData: as many bytes of the host as can be read now, at most credit().
  [[nodiscard]] std::optional<VsockOp> due() const;
  /// Like due(), without data: for a buffer that holds only a header.
  [[nodiscard]] std::optional<VsockOp> due_control() const;
  [[nodiscard]] std::uint32_t credit() const;
  /// `length` is the payload of kData, at most credit().
  [[nodiscard]] VsockHeader packet(VsockOp op, std::uint32_t length = 0) const;
  /// The guest has received `packet`.
  void sent(const VsockHeader& packet, Clock::time_point now);
  /// Returns RST, which closes the connection.
  VsockHeader reset_packet();

 private:
  VsockConnection(const VsockName& name, State state, std::uint32_t buffer_bytes)
      : name_(name), state_(state), buffer_bytes_(buffer_bytes) {}
  Action take_data(std::uint32_t length);
  Action take_shutdown(std::uint32_t flags);
  Action close(Action action);
  void shut_down(std::uint32_t flags);
  [[nodiscard]] bool may_send_data() const;

  VsockName name_;
  State state_;
  std::optional<Clock::time_point> deadline_;

  // Guest to host.
  std::uint32_t buffer_bytes_;
  std::uint32_t received_ = 0;   // bytes sent by the guest
  std::uint32_t forwarded_ = 0;  // of these, no longer in our buffer
  std::uint32_t announced_ = 0;  // the last `forwarded_` reported to the guest
  bool host_reads_ = true;
  std::uint32_t guest_shutdown_ = 0;

  // Host to guest.
  std::uint32_t peer_buffer_bytes_ = 0;
  std::uint32_t peer_forwarded_ = 0;
  std::uint32_t sent_ = 0;
  bool readable_ = false;
  bool host_finished_ = false;
  bool hung_up_ = false;
  std::uint32_t shutdown_sent_ = 0;

  // Packets that are due.
  bool request_due_ = false;
  bool response_due_ = false;
  bool credit_asked_ = false;      // by the guest
  bool credit_requested_ = false;  // by us; the next credit clears it
  std::uint32_t shutdown_due_ = 0;
};

}  // namespace nitro::proc
