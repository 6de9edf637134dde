// SPDX-License-Identifier: Apache-2.0
#include "virtio_vsock.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "nitro/bytes.h"

namespace nitro::proc {
namespace {

using namespace std::chrono_literals;

// Bytes of one connection that move in one turn, so that every connection gets its turn soon.
constexpr std::size_t kBytesPerTurn = 128 * 1024;
// Buffers of the driver that one turn fills; Linux gives buffers of 4 KiB.
constexpr std::size_t kChainsPerTurn = 40;
// What one call of the loop handles of each queue; 512 full packets of Linux are 32 MiB, hence the second limit.
constexpr std::size_t kChainsPerRound = 512;
constexpr std::size_t kBytesPerRound = 2 * 1024 * 1024;
// readv(2) and writev(2) take no more pieces (IOV_MAX).
constexpr std::size_t kMaxPieces = 1024;
// Refusals that wait for receive buffers. A guest that gives no buffers is not read from any more when there are so
// many.
constexpr std::size_t kMaxReplies = 1024;
// How often a host socket whose backlog is full is tried again, and for how long.
constexpr auto kTick = 20ms;
constexpr auto kDialTimeout = 2s;
constexpr int kDialsPerTick = 64;
// How long the guest may take to answer the end of a connection; Linux itself waits so long (VSOCK_CLOSE_TIMEOUT).
constexpr auto kCloseTimeout = 8s;
// Ports of host programs that connect to the guest. Out of the way of those that programs listen on.
constexpr std::uint32_t kFirstHostPort = std::uint32_t{1} << 30;
constexpr std::uint32_t kLastHostPort = 0x7fffffff;

void drop_front(std::vector<iovec>& pieces, std::size_t left) {
  auto piece = pieces.begin();
  while (left > 0 && piece != pieces.end()) {
    const std::size_t here = std::min(left, piece->iov_len);
    piece->iov_base = static_cast<std::byte*>(piece->iov_base) + here;
    piece->iov_len -= here;
    left -= here;
    if (piece->iov_len == 0) ++piece;
  }
  pieces.erase(pieces.begin(), piece);
}

std::size_t total_size(const std::vector<iovec>& pieces) {
  std::size_t sum = 0;
  for (const iovec& piece : pieces) sum += piece.iov_len;
  return sum;
}

/// Keeps the first `size` bytes only.
void truncate(std::vector<iovec>& pieces, std::size_t size) {
  for (auto piece = pieces.begin(); piece != pieces.end(); ++piece) {
    if (size <= piece->iov_len) {
      piece->iov_len = size;
      pieces.erase(size == 0 ? piece : piece + 1, pieces.end());
      return;
    }
    size -= piece->iov_len;
  }
}

void gather(const std::vector<iovec>& pieces, std::span<std::byte> target) {
  for (const iovec& piece : pieces) {
    const std::size_t here = std::min(piece.iov_len, target.size());
    std::memcpy(target.data(), piece.iov_base, here);
    target = target.subspan(here);
    if (target.empty()) return;
  }
}

void scatter(std::span<const std::byte> source, const std::vector<iovec>& pieces) {
  for (const iovec& piece : pieces) {
    const std::size_t here = std::min(piece.iov_len, source.size());
    std::memcpy(piece.iov_base, source.data(), here);
    source = source.subspan(here);
    if (source.empty()) return;
  }
}

}  // namespace

VsockHeader VsockHeader::parse(std::span<const std::byte, kSize> bytes) {
  VsockHeader header;
  header.source_cid = load_le<std::uint64_t>(bytes.subspan(0));
  header.destination_cid = load_le<std::uint64_t>(bytes.subspan(8));
  header.source_port = load_le<std::uint32_t>(bytes.subspan(16));
  header.destination_port = load_le<std::uint32_t>(bytes.subspan(20));
  header.length = load_le<std::uint32_t>(bytes.subspan(24));
  header.type = load_le<std::uint16_t>(bytes.subspan(28));
  header.op = load_le<std::uint16_t>(bytes.subspan(30));
  header.flags = load_le<std::uint32_t>(bytes.subspan(32));
  header.buffer_size = load_le<std::uint32_t>(bytes.subspan(36));
  header.forwarded_count = load_le<std::uint32_t>(bytes.subspan(40));
  return header;
}

std::array<std::byte, VsockHeader::kSize> VsockHeader::serialize() const {
  std::array<std::byte, kSize> bytes;
  const std::span<std::byte> out(bytes);
  store_le(out.subspan(0), source_cid);
  store_le(out.subspan(8), destination_cid);
  store_le(out.subspan(16), source_port);
  store_le(out.subspan(20), destination_port);
  store_le(out.subspan(24), length);
  store_le(out.subspan(28), type);
  store_le(out.subspan(30), op);
  store_le(out.subspan(32), flags);
  store_le(out.subspan(36), buffer_size);
  store_le(out.subspan(40), forwarded_count);
  return bytes;
}

std::uint32_t VirtioVsock::Connection::credit() const {
  // virtio 1.2, section 5.10.6.3. A guest that claims to have forwarded more than it got, or that shrinks its buffer
  // below what is in flight, has no credit.
  const std::uint32_t in_flight = sent - peer_forwarded;
  return in_flight >= peer_buffer_size ? 0 : peer_buffer_size - in_flight;
}

bool VirtioVsock::Connection::can_send_data() const {
  return state == State::kOpen && readable && !host_finished && (guest_shutdown & kVsockShutdownReceive) == 0;
}

bool VirtioVsock::Connection::has_work() const {
  return due_request || due_response || due_credit_update || due_credit_request || due_shutdown != 0 ||
         (can_send_data() && credit() > 0);
}

VirtioVsock::VirtioVsock(EventLoop& loop, std::uint64_t guest_cid, Dial dial)
    : loop_(loop),
      guest_cid_(guest_cid),
      dial_(std::move(dial)),
      next_host_port_(kFirstHostPort),
      receive_chains_(kChainsPerTurn),
      self_(std::make_shared<VirtioVsock*>(this)) {
  // virtio 1.2, section 5.10.4: le64 guest_cid.
  store_le(std::span<std::byte>(config_), guest_cid);
}

VirtioVsock::~VirtioVsock() = default;

void VirtioVsock::started(RunningQueue& receive, RunningQueue& transmit) {
  receive_ = &receive;
  transmit_ = &transmit;
  transmit_pending_ = true;
  schedule_work();
}

void VirtioVsock::stopped() {
  receive_ = nullptr;
  transmit_ = nullptr;
  transmit_pending_ = false;
  // A driver that starts again knows nothing of earlier connections. What the guest had sent before is still delivered.
  replies_.clear();
  for (Connection* connection : ready_) {
    if (connection != nullptr) connection->in_ready = false;
  }
  ready_.clear();
  while (!connections_.empty()) remove_or_linger(*connections_.begin()->second);
}

void VirtioVsock::kicked(unsigned index) {
  if (index == 1) transmit_pending_ = true;
  work();
}

void VirtioVsock::connect(Fd socket, std::uint32_t guest_port, Accepted accepted) {
  if (receive_ == nullptr || connection_count() >= kMaxConnections) return;
  Key key{guest_port, 0, kParentCid};
  do {
    key.host_port = next_host_port_;
    next_host_port_ = next_host_port_ == kLastHostPort ? kFirstHostPort : next_host_port_ + 1;
  } while (find(key) != nullptr);

  Connection& connection = add(key, State::kRequested);
  connection.socket = std::move(socket);
  connection.accepted = std::move(accepted);
  if (!watch_socket(connection)) return remove(connection);
  connection.due_request = true;
  set_deadline(connection, kConnectTimeout);
  make_ready(connection);
  work();
}

// --- work
// -----------------------------------------------------------------------------------------------------------------------

void VirtioVsock::work() {
  if (working_ || receive_ == nullptr) return;
  working_ = true;
  process_transmit_queue();
  serve_receive_queue();
  // Refusals that were in the way have left.
  if (transmit_pending_ && replies_.size() < kMaxReplies) schedule_work();
  working_ = false;
}

void VirtioVsock::schedule_work() {
  if (work_scheduled_) return;
  work_scheduled_ = true;
  loop_.defer([weak = std::weak_ptr<VirtioVsock*>(self_)] {
    if (const auto self = weak.lock()) {
      (*self)->work_scheduled_ = false;
      (*self)->work();
    }
  });
}

// --- guest to host
// --------------------------------------------------------------------------------------------------------------

void VirtioVsock::process_transmit_queue() {
  if (!transmit_pending_) return;
  Virtqueue& queue = transmit_->queue;
  queue.disable_kicks();
  bytes_taken_ = 0;
  for (std::size_t count = 0; count < kChainsPerRound && bytes_taken_ < kBytesPerRound && replies_.size() < kMaxReplies;
       ++count) {
    const Virtqueue::Popped popped = queue.pop(transmit_chain_);
    if (popped == Virtqueue::Popped::kBroken) {
      transmit_pending_ = false;
      break;
    }
    if (popped == Virtqueue::Popped::kEmpty) {
      if (queue.enable_kicks()) {
        queue.disable_kicks();
        continue;
      }
      transmit_pending_ = false;
      break;
    }
    if (transmit_chain_.valid) handle_packet(transmit_chain_);
    queue.complete(transmit_chain_.head, 0);
  }
  transmit_->publish();
}

void VirtioVsock::handle_packet(const DescriptorChain& chain) {
  // section 5.10.6: packets to the device are device-readable. What lacks a whole header cannot even be answered.
  if (!chain.writable.empty() || total_size(chain.readable) < VsockHeader::kSize) return;
  std::array<std::byte, VsockHeader::kSize> bytes;
  gather(chain.readable, bytes);
  const VsockHeader header = VsockHeader::parse(bytes);

  // The guest may speak for itself only.
  if (header.source_cid != guest_cid_) return;
  const bool to_us = header.destination_cid == kParentCid || header.destination_cid == kHostCid;
  if (!to_us || header.type != kVsockTypeStream) return queue_reset(header);

  Connection* connection = find(Key{header.source_port, header.destination_port, header.destination_cid});
  if (connection == nullptr) {
    if (header.op == static_cast<std::uint16_t>(VsockOp::kRequest)) return handle_request(header);
    return queue_reset(header);
  }

  pieces_.assign(chain.readable.begin(), chain.readable.end());
  drop_front(pieces_, VsockHeader::kSize);
  const std::size_t present = total_size(pieces_);
  if (header.length > present) {
    queue_reset(header);
    return remove(*connection);
  }
  truncate(pieces_, header.length);
  handle_connection_packet(*connection, header);
}

void VirtioVsock::handle_request(const VsockHeader& header) {
  if (connection_count() >= kMaxConnections) return queue_reset(header);
  Connection& connection =
      add(Key{header.source_port, header.destination_port, header.destination_cid}, State::kDialing);
  connection.peer_buffer_size = header.buffer_size;
  connection.peer_forwarded = header.forwarded_count;
  set_deadline(connection, kDialTimeout);
  dial(connection);
}

void VirtioVsock::handle_connection_packet(Connection& connection, const VsockHeader& header) {
  connection.peer_buffer_size = header.buffer_size;
  connection.peer_forwarded = header.forwarded_count;
  if (connection.credit() > 0) connection.credit_requested = false;

  const bool open = connection.state == State::kOpen;
  switch (static_cast<VsockOp>(header.op)) {
    case VsockOp::kReset:
      return remove_or_linger(connection);
    case VsockOp::kResponse:
      if (connection.state != State::kRequested) break;
      connection.state = State::kOpen;
      clear_deadline(connection);
      if (connection.accepted && !connection.accepted(connection.socket.get(), connection.key.host_port)) {
        return reset(connection);
      }
      connection.accepted = nullptr;
      return make_ready(connection);
    case VsockOp::kShutdown:
      if (!open) break;
      connection.guest_shutdown |= header.flags & kVsockShutdownBoth;
      return guest_has_shut_down(connection);
    case VsockOp::kData:
      if (!open) break;
      return receive_data(connection, header.length);
    case VsockOp::kCreditUpdate:
      return make_ready(connection);
    case VsockOp::kCreditRequest:
      connection.due_credit_update = open;
      return make_ready(connection);
    case VsockOp::kRequest:
      break;
  }
  // Not possible in this state, or not an operation at all.
  reset(connection);
}

void VirtioVsock::receive_data(Connection& connection, std::uint32_t length) {
  const std::uint32_t held = connection.received - connection.forwarded;
  // section 5.10.6.3.1: the peer must not send more than there is room for.
  if (length > connection.buffer_size - held || (connection.guest_shutdown & kVsockShutdownSend) != 0) {
    return reset(connection);
  }
  connection.received += length;
  bytes_taken_ += length;
  if (connection.host_reads && connection.buffer.empty() && !write_pieces(connection)) host_stopped_reading(connection);
  if (connection.host_reads) {
    for (const iovec& piece : pieces_) {
      buffered_bytes_ +=
          connection.buffer.push(std::span(static_cast<const std::byte*>(piece.iov_base), piece.iov_len));
    }
  } else {
    // Sent before the guest could know that nobody reads it.
    connection.forwarded = connection.received;
  }
  if (connection.forwarded - connection.announced >= connection.buffer_size / 4) connection.due_credit_update = true;
  make_ready(connection);
}

bool VirtioVsock::write_pieces(Connection& connection) {
  while (!pieces_.empty()) {
    msghdr message{};
    message.msg_iov = pieces_.data();
    message.msg_iovlen = std::min(pieces_.size(), kMaxPieces);
    const ssize_t sent = ::sendmsg(connection.socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      return errno == EAGAIN || errno == EWOULDBLOCK;
    }
    connection.forwarded += static_cast<std::uint32_t>(sent);
    drop_front(pieces_, static_cast<std::size_t>(sent));
  }
  return true;
}

void VirtioVsock::flush(Connection& connection) {
  while (!connection.buffer.empty()) {
    std::array<iovec, 2> pieces = connection.buffer.pieces();
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = pieces.size();
    const ssize_t sent = ::sendmsg(connection.socket.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) break;
      return host_stopped_reading(connection);
    }
    connection.buffer.pop(static_cast<std::size_t>(sent));
    connection.forwarded += static_cast<std::uint32_t>(sent);
    buffered_bytes_ -= static_cast<std::size_t>(sent);
  }
  // Idle connections hold no memory.
  if (connection.buffer.empty()) connection.buffer.release();
  if (connection.forwarded - connection.announced >= connection.buffer_size / 4) connection.due_credit_update = true;
}

void VirtioVsock::host_stopped_reading(Connection& connection) {
  connection.host_reads = false;
  buffered_bytes_ -= connection.buffer.size();
  connection.buffer.release();
  connection.forwarded = connection.received;
  if ((connection.shutdown_sent & kVsockShutdownReceive) == 0) connection.due_shutdown |= kVsockShutdownReceive;
}

void VirtioVsock::guest_has_shut_down(Connection& connection) {
  if (connection.guest_shutdown == kVsockShutdownBoth) return reset(connection);
  if ((connection.guest_shutdown & kVsockShutdownReceive) != 0) ::shutdown(connection.socket.get(), SHUT_RD);
  if ((connection.guest_shutdown & kVsockShutdownSend) != 0 && connection.buffer.empty()) {
    ::shutdown(connection.socket.get(), SHUT_WR);
  }
}

// --- host to guest
// --------------------------------------------------------------------------------------------------------------

void VirtioVsock::serve_receive_queue() {
  Virtqueue& queue = receive_->queue;
  queue.disable_kicks();
  bool starved = false;
  chains_filled_ = 0;
  while (chains_filled_ < kChainsPerRound) {
    if (!replies_.empty()) {
      if (send_packet(replies_.front())) {
        replies_.pop_front();
        continue;
      }
    } else if (ready_.empty()) {
      break;
    } else {
      Connection* connection = ready_.front();
      const Sent sent = connection == nullptr ? Sent::kNothing : serve(*connection);
      if (sent != Sent::kNoBuffer) {
        ready_.pop_front();
        if (connection != nullptr) {
          connection->in_ready = false;
          make_ready(*connection);
        }
        continue;
      }
    }
    // The driver has no buffer for us; it kicks when it has.
    if (!queue.enable_kicks() || queue.broken()) {
      starved = true;
      break;
    }
    queue.disable_kicks();
  }
  receive_->publish();
  if (!starved && (!replies_.empty() || !ready_.empty())) schedule_work();
}

void VirtioVsock::make_ready(Connection& connection) {
  if (connection.in_ready) return;
  if (connection.can_send_data() && connection.credit() == 0 && !connection.credit_requested) {
    // section 5.10.6.3: asking once is enough; the answer clears the flag.
    connection.credit_requested = true;
    connection.due_credit_request = true;
  }
  if (!connection.has_work()) return;
  connection.in_ready = true;
  ready_.push_back(&connection);
}

VirtioVsock::Sent VirtioVsock::serve(Connection& connection) {
  const auto control = [&](VsockOp op, std::uint32_t flags = 0) {
    VsockHeader header = header_for(connection, op);
    header.flags = flags;
    return send_packet(header);
  };
  if (connection.due_request) {
    if (!control(VsockOp::kRequest)) return Sent::kNoBuffer;
    connection.due_request = false;
    return Sent::kSomething;
  }
  if (connection.due_response) {
    if (!control(VsockOp::kResponse)) return Sent::kNoBuffer;
    connection.due_response = false;
    return Sent::kSomething;
  }
  if (connection.can_send_data() && connection.credit() > 0) {
    const Sent sent = send_data(connection);
    if (sent != Sent::kNothing) {
      // The header of data tells the guest its credit, too.
      if (sent == Sent::kSomething) connection.due_credit_update = false;
      return sent;
    }
  }
  if (connection.due_credit_update) {
    if (!control(VsockOp::kCreditUpdate)) return Sent::kNoBuffer;
    connection.due_credit_update = false;
    return Sent::kSomething;
  }
  if (connection.due_credit_request) {
    if (!control(VsockOp::kCreditRequest)) return Sent::kNoBuffer;
    connection.due_credit_request = false;
    return Sent::kSomething;
  }
  if (connection.due_shutdown != 0) {
    const std::uint32_t flags = connection.due_shutdown | connection.shutdown_sent;
    if (!control(VsockOp::kShutdown, flags)) return Sent::kNoBuffer;
    connection.shutdown_sent = flags;
    connection.due_shutdown = 0;
    // The guest now answers with RST. One that does not must not keep the connection.
    if (flags == kVsockShutdownBoth) set_deadline(connection, kCloseTimeout);
    return Sent::kSomething;
  }
  return Sent::kNothing;
}

VirtioVsock::Sent VirtioVsock::send_data(Connection& connection) {
  const std::size_t limit = std::min<std::size_t>(connection.credit(), kBytesPerTurn);
  // Read straight into as many guest buffers as it takes: behind the place of the header in each.
  pieces_.clear();
  std::size_t room = 0;
  std::size_t chains = 0;
  std::array<std::uint32_t, kChainsPerTurn> payload_room{};
  while (room < limit && chains < kChainsPerTurn) {
    DescriptorChain& chain = receive_chains_[chains];
    const Virtqueue::Popped popped = receive_->queue.pop(chain);
    if (popped != Virtqueue::Popped::kChain) break;
    const std::size_t size = chain.valid ? total_size(chain.writable) : 0;
    if (size <= VsockHeader::kSize || chain.writable.size() > kMaxPieces) {
      // Only the first of a batch can be given back alone: the others may have to be put back together.
      if (chains > 0) {
        receive_->queue.put_back(1);
        break;
      }
      complete_receive(chain.head, 0);
      return Sent::kSomething;
    }
    if (pieces_.size() + chain.writable.size() > kMaxPieces) {
      receive_->queue.put_back(1);
      break;
    }
    std::size_t skip = VsockHeader::kSize;
    std::size_t wanted = std::min(size - VsockHeader::kSize, limit - room);
    payload_room[chains] = static_cast<std::uint32_t>(wanted);
    room += wanted;
    for (iovec piece : chain.writable) {
      const std::size_t skipped = std::min(skip, piece.iov_len);
      skip -= skipped;
      piece.iov_base = static_cast<std::byte*>(piece.iov_base) + skipped;
      piece.iov_len = std::min(piece.iov_len - skipped, wanted);
      wanted -= piece.iov_len;
      if (piece.iov_len > 0) pieces_.push_back(piece);
    }
    ++chains;
  }
  if (chains == 0) return Sent::kNoBuffer;

  msghdr message{};
  message.msg_iov = pieces_.data();
  message.msg_iovlen = pieces_.size();
  ssize_t got = -1;
  do {
    got = ::recvmsg(connection.socket.get(), &message, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got <= 0) {
    receive_->queue.put_back(static_cast<std::uint16_t>(chains));
    connection.readable = false;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return Sent::kNothing;
    finish_host_side(connection);
    // The other end is closed, not merely half-closed: it reads nothing more either.
    if (got < 0 || connection.closed) host_stopped_reading(connection);
    return Sent::kNothing;
  }

  auto left = static_cast<std::size_t>(got);
  // Fewer bytes than asked for: the socket is empty, and an event comes with the next ones. Its end may have been
  // announced already.
  if (left < room && !connection.end_announced) connection.readable = false;
  std::size_t used = 0;
  for (; used < chains && left > 0; ++used) {
    const auto length = static_cast<std::uint32_t>(std::min<std::size_t>(left, payload_room[used]));
    VsockHeader header = header_for(connection, VsockOp::kData);
    header.length = length;
    scatter(header.serialize(), receive_chains_[used].writable);
    complete_receive(receive_chains_[used].head, length + static_cast<std::uint32_t>(VsockHeader::kSize));
    connection.sent += length;
    left -= length;
  }
  receive_->queue.put_back(static_cast<std::uint16_t>(chains - used));
  return Sent::kSomething;
}

void VirtioVsock::finish_host_side(Connection& connection) {
  connection.host_finished = true;
  if ((connection.shutdown_sent & kVsockShutdownSend) == 0) connection.due_shutdown |= kVsockShutdownSend;
}

bool VirtioVsock::next_receive_chain(DescriptorChain& chain) {
  // Buffers that cannot hold a header go back unused, a few in one call: the caller counts them.
  for (int count = 0; count < 16; ++count) {
    if (receive_->queue.pop(chain) != Virtqueue::Popped::kChain) return false;
    if (chain.valid && total_size(chain.writable) >= VsockHeader::kSize) return true;
    complete_receive(chain.head, 0);
  }
  return false;
}

void VirtioVsock::complete_receive(std::uint16_t head, std::uint32_t written) {
  receive_->queue.complete(head, written);
  ++chains_filled_;
}

bool VirtioVsock::send_packet(const VsockHeader& header) {
  DescriptorChain& chain = receive_chains_[0];
  if (!next_receive_chain(chain)) return false;
  scatter(header.serialize(), chain.writable);
  complete_receive(chain.head, VsockHeader::kSize);
  return true;
}

VsockHeader VirtioVsock::header_for(Connection& connection, VsockOp op) {
  VsockHeader header;
  header.source_cid = connection.key.host_cid;
  header.destination_cid = guest_cid_;
  header.source_port = connection.key.host_port;
  header.destination_port = connection.key.guest_port;
  header.op = static_cast<std::uint16_t>(op);
  header.buffer_size = connection.buffer_size;
  header.forwarded_count = connection.forwarded;
  connection.announced = connection.forwarded;
  return header;
}

// --- the host's sockets
// ---------------------------------------------------------------------------------------------------------

bool VirtioVsock::watch_socket(Connection& connection) {
  // Edge-triggered: what an event said is kept in the connection until a read or write finds otherwise, and a
  // connection that waits for credit or buffers costs nothing.
  auto watch = loop_.watch_fd(connection.socket.get(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                              [this, &connection](std::uint32_t events) { on_socket(connection, events); });
  if (!watch) return false;
  connection.watch = std::move(*watch);
  return true;
}

void VirtioVsock::on_socket(Connection& connection, std::uint32_t events) {
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) connection.readable = true;
  if ((events & (EPOLLHUP | EPOLLERR)) != 0 && connection.state != State::kDialing) connection.closed = true;
  // The end is told of once, perhaps together with bytes that come before it.
  if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) connection.end_announced = true;
  switch (connection.state) {
    case State::kDialing: {
      int failure = 0;
      socklen_t size = sizeof failure;
      if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) == 0) return;
      if (::getsockopt(connection.socket.get(), SOL_SOCKET, SO_ERROR, &failure, &size) != 0 || failure != 0) {
        reset(connection);
      } else {
        opened_by_guest(connection);
      }
      return work();
    }
    case State::kRequested:
      // The host's program has lost patience.
      if ((events & (EPOLLHUP | EPOLLERR)) != 0) {
        // Nobody may have told the guest of the connection yet.
        if (connection.due_request) {
          remove(connection);
        } else {
          reset(connection);
        }
        return work();
      }
      return;
    case State::kLingering:
      flush(connection);
      if (connection.buffer.empty()) lingering_.erase(&connection);
      return;
    case State::kOpen:
      break;
  }
  if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0 && !connection.buffer.empty()) {
    flush(connection);
    if (connection.buffer.empty()) guest_has_shut_down(connection);
  }
  // Nobody will read the end out of the socket.
  if (connection.closed && (connection.guest_shutdown & kVsockShutdownReceive) != 0) finish_host_side(connection);
  if (connection.closed && connection.host_finished) host_stopped_reading(connection);
  make_ready(connection);
  work();
}

void VirtioVsock::dial(Connection& connection) {
  DialResult result = dial_(connection.key.host_port);
  connection.busy = result.status == DialResult::Status::kBusy;
  if (connection.busy) return;
  connection.socket = std::move(result.socket);
  if (result.status == DialResult::Status::kRefused || !watch_socket(connection)) return reset(connection);
  if (result.status == DialResult::Status::kConnected) opened_by_guest(connection);
}

void VirtioVsock::opened_by_guest(Connection& connection) {
  connection.state = State::kOpen;
  clear_deadline(connection);
  connection.due_response = true;
  make_ready(connection);
}

// --- life of connections
// --------------------------------------------------------------------------------------------------------

std::uint32_t VirtioVsock::buffer_size_for_new_connection() const {
  // Together at most 128 × 256 KiB + 896 × 64 KiB + 3072 × 16 KiB = 136 MiB, however many connections the guest opens.
  const std::size_t count = connection_count();
  if (count < 128) return 256 * 1024;
  if (count < 1024) return 64 * 1024;
  return 16 * 1024;
}

VirtioVsock::Connection* VirtioVsock::find(const Key& key) {
  const auto found = connections_.find(key);
  return found == connections_.end() ? nullptr : found->second.get();
}

VirtioVsock::Connection& VirtioVsock::add(const Key& key, State state) {
  auto connection = std::make_unique<Connection>(key, state, buffer_size_for_new_connection());
  Connection& added = *connection;
  connections_.emplace(key, std::move(connection));
  return added;
}

void VirtioVsock::queue_reset(const VsockHeader& received) {
  // A reset is never answered with another.
  if (received.op == static_cast<std::uint16_t>(VsockOp::kReset)) return;
  VsockHeader header;
  header.source_cid = received.destination_cid;
  header.destination_cid = received.source_cid;
  header.source_port = received.destination_port;
  header.destination_port = received.source_port;
  header.type = received.type;
  header.op = static_cast<std::uint16_t>(VsockOp::kReset);
  replies_.push_back(header);
}

void VirtioVsock::reset(Connection& connection) {
  if (receive_ != nullptr) replies_.push_back(header_for(connection, VsockOp::kReset));
  remove_or_linger(connection);
}

void VirtioVsock::remove(Connection& connection) {
  clear_deadline(connection);
  if (connection.in_ready) std::replace(ready_.begin(), ready_.end(), &connection, static_cast<Connection*>(nullptr));
  buffered_bytes_ -= connection.buffer.size();
  connections_.erase(Key(connection.key));
}

void VirtioVsock::remove_or_linger(Connection& connection) {
  if (connection.state != State::kOpen || connection.buffer.empty()) return remove(connection);
  clear_deadline(connection);
  if (connection.in_ready) std::replace(ready_.begin(), ready_.end(), &connection, static_cast<Connection*>(nullptr));
  connection.in_ready = false;
  connection.state = State::kLingering;
  const auto entry = connections_.find(connection.key);
  lingering_.emplace(&connection, std::move(entry->second));
  connections_.erase(entry);
}

void VirtioVsock::set_deadline(Connection& connection, Clock::duration timeout) {
  connection.deadline = Clock::now() + timeout;
  timed_.insert(&connection);
  if (tick_.active()) return;
  tick_ = loop_.watch_timer(
      kTick, [this] { on_tick(); }, true);
}

void VirtioVsock::clear_deadline(Connection& connection) {
  connection.deadline.reset();
  timed_.erase(&connection);
  if (timed_.empty()) tick_.cancel();
}

void VirtioVsock::on_tick() {
  const Clock::time_point now = Clock::now();
  // Round and round, so that all get their turn.
  std::vector<Connection*> due(timed_.upper_bound(last_dialled_), timed_.end());
  due.insert(due.end(), timed_.begin(), timed_.upper_bound(last_dialled_));
  int dials = 0;
  for (Connection* connection : due) {
    if (*connection->deadline <= now) {
      // A request that the guest's driver has not even fetched is withdrawn without a word.
      if (connection->due_request) {
        remove(*connection);
      } else {
        reset(*connection);
      }
    } else if (connection->busy && dials < kDialsPerTick) {
      ++dials;
      last_dialled_ = connection;
      dial(*connection);
    }
  }
  work();
}

}  // namespace nitro::proc
