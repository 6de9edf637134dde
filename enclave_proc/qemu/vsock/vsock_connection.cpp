// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/vsock_connection.h"

namespace nitro::proc {

VsockConnection VsockConnection::asked_by_guest(const VsockHeader& request, std::uint32_t buffer_bytes,
                                                Clock::time_point now) {
  const VsockName name{.guest_cid = request.source_cid,
                       .host_cid = request.destination_cid,
                       .guest_port = request.source_port,
                       .host_port = request.destination_port};
  VsockConnection connection(name, State::kDialing, buffer_bytes);
  connection.peer_buffer_bytes_ = request.buffer_size;
  connection.peer_forwarded_ = request.forwarded_count;
  connection.deadline_ = now + kDialTimeout;
  return connection;
}

VsockConnection VsockConnection::asked_by_host(const VsockName& name, std::uint32_t buffer_bytes,
                                               Clock::time_point now) {
  VsockConnection connection(name, State::kRequested, buffer_bytes);
  connection.request_due_ = true;
  connection.deadline_ = now + kConnectTimeout;
  return connection;
}

VsockConnection::Action VsockConnection::close(Action action) {
  state_ = State::kClosed;
  deadline_.reset();
  return action;
}

VsockConnection::Action VsockConnection::take(const VsockHeader& packet) {
  if (state_ == State::kClosed) return Action::kNothing;
  peer_buffer_bytes_ = packet.buffer_size;
  peer_forwarded_ = packet.forwarded_count;
  if (credit() > 0) credit_requested_ = false;

  const bool open = state_ == State::kOpen;
  switch (static_cast<VsockOp>(packet.op)) {
    case VsockOp::kReset:
      return close(Action::kForget);
    case VsockOp::kResponse:
      if (state_ != State::kRequested || request_due_) break;
      state_ = State::kOpen;
      deadline_.reset();
      return Action::kAccept;
    case VsockOp::kShutdown:
      if (!open) break;
      return take_shutdown(packet.flags);
    case VsockOp::kData:
      if (!open) break;
      return take_data(packet.length);
    case VsockOp::kCreditUpdate:
      return Action::kNothing;
    case VsockOp::kCreditRequest:
      credit_asked_ = open;
      return Action::kNothing;
    case VsockOp::kRequest:
      break;
  }
  // Not allowed in this state, or an unknown operation.
  return close(Action::kReset);
}

VsockConnection::Action VsockConnection::take_data(std::uint32_t length) {
  const std::uint32_t held = received_ - forwarded_;
  if (length > buffer_bytes_ - held || !guest_sends()) return close(Action::kReset);
  received_ += length;
  if (host_reads_) return Action::kDeliver;
  // The guest sent this before it could know that nobody reads it.
  forwarded_ = received_;
  return Action::kNothing;
}

VsockConnection::Action VsockConnection::take_shutdown(std::uint32_t flags) {
  guest_shutdown_ |= flags & kVsockShutdownBoth;
  if (guest_shutdown_ == kVsockShutdownBoth) return close(Action::kReset);
  if (hung_up_ && !guest_receives()) {
    // Nobody will read the socket up to its end.
    host_finished();
  }
  return Action::kShutdown;
}

void VsockConnection::delivered(std::uint32_t bytes) {
  forwarded_ += bytes;
}

void VsockConnection::host_connected() {
  state_ = State::kOpen;
  deadline_.reset();
  response_due_ = true;
}

void VsockConnection::shut_down(std::uint32_t flags) {
  shutdown_due_ |= flags & ~shutdown_sent_;
}

void VsockConnection::host_finished() {
  host_finished_ = true;
  shut_down(kVsockShutdownSend);
  // The other end is closed, not just half-closed: it reads nothing more either.
  if (hung_up_) host_stopped_reading();
}

void VsockConnection::host_stopped_reading() {
  host_reads_ = false;
  forwarded_ = received_;
  shut_down(kVsockShutdownReceive);
}

VsockConnection::Action VsockConnection::host_hung_up() {
  if (state_ == State::kRequested) {
    // The program has given up. The guest may not even have received the request.
    return close(request_due_ ? Action::kForget : Action::kReset);
  }
  hung_up_ = true;
  readable_ = true;
  if (host_finished_ || !guest_receives()) host_finished();
  return Action::kNothing;
}

VsockConnection::Action VsockConnection::expire() {
  // A request that the guest's driver has not yet fetched is withdrawn silently.
  return close(request_due_ ? Action::kForget : Action::kReset);
}

std::uint32_t VsockConnection::credit() const {
  const std::uint32_t in_flight = sent_ - peer_forwarded_;
  return in_flight >= peer_buffer_bytes_ ? 0 : peer_buffer_bytes_ - in_flight;
}

bool VsockConnection::may_send_data() const {
  return state_ == State::kOpen && readable_ && !host_finished_ && guest_receives();
}

std::optional<VsockOp> VsockConnection::due() const {
  if (state_ == State::kClosed) return std::nullopt;
  if (request_due_) return VsockOp::kRequest;
  if (response_due_) return VsockOp::kResponse;
  if (may_send_data() && credit() > 0) return VsockOp::kData;
  return due_control();
}

std::optional<VsockOp> VsockConnection::due_control() const {
  if (state_ == State::kClosed) return std::nullopt;
  if (request_due_) return VsockOp::kRequest;
  if (response_due_) return VsockOp::kResponse;
  if (state_ != State::kOpen) return std::nullopt;
  if (credit_asked_ || forwarded_ - announced_ >= buffer_bytes_ / 4) return VsockOp::kCreditUpdate;
  if (may_send_data() && credit() == 0 && !credit_requested_) return VsockOp::kCreditRequest;
  if (shutdown_due_ != 0) return VsockOp::kShutdown;
  return std::nullopt;
}

VsockHeader VsockConnection::packet(VsockOp op, std::uint32_t length) const {
  VsockHeader header;
  header.source_cid = name_.host_cid;
  header.destination_cid = name_.guest_cid;
  header.source_port = name_.host_port;
  header.destination_port = name_.guest_port;
  header.length = length;
  header.op = static_cast<std::uint16_t>(op);
  if (op == VsockOp::kShutdown) header.flags = shutdown_due_ | shutdown_sent_;
  header.buffer_size = buffer_bytes_;
  header.forwarded_count = forwarded_;
  return header;
}

void VsockConnection::sent(const VsockHeader& packet, Clock::time_point now) {
  announced_ = packet.forwarded_count;
  credit_asked_ = false;
  switch (static_cast<VsockOp>(packet.op)) {
    case VsockOp::kRequest:
      request_due_ = false;
      break;
    case VsockOp::kResponse:
      response_due_ = false;
      break;
    case VsockOp::kData:
      sent_ += packet.length;
      break;
    case VsockOp::kCreditRequest:
      credit_requested_ = true;
      break;
    case VsockOp::kShutdown:
      shutdown_sent_ |= packet.flags;
      shutdown_due_ &= ~shutdown_sent_;
      // The guest now answers with RST. A guest that does not must not keep the connection.
      if (shutdown_sent_ == kVsockShutdownBoth) deadline_ = now + kCloseTimeout;
      break;
    case VsockOp::kCreditUpdate:
    case VsockOp::kReset:
      break;
  }
}

VsockHeader VsockConnection::reset_packet() {
  close(Action::kReset);
  return packet(VsockOp::kReset);
}

}  // namespace nitro::proc
