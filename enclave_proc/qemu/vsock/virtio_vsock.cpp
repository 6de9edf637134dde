// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/virtio_vsock.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "enclave_proc/qemu/vsock/pieces.h"
#include "src/base/bytes.h"

namespace nitro::proc {
namespace {

using namespace std::chrono_literals;
using Action = VsockConnection::Action;
using State = VsockConnection::State;

// Buffers of the driver filled in one turn; Linux provides buffers of 4 KiB.
constexpr std::size_t kChainsPerTurn = 40;
// Limits for each queue in one round of the loop. 512 full packets of Linux are 32 MiB, hence the second limit.
constexpr std::size_t kChainsPerRound = 512;
constexpr std::size_t kBytesPerRound = std::size_t{2} * 1024 * 1024;
// Interval for checking deadlines and for retrying a host socket whose backlog is full.
constexpr auto kTick = 20ms;
constexpr int kDialsPerTick = 64;
// Ports of host programs that connect to the guest, out of the range that programs usually listen on.
constexpr std::uint32_t kFirstHostPort = std::uint32_t{1} << 30;
constexpr std::uint32_t kLastHostPort = 0x7fffffff;

}  // namespace

VirtioVsock::VirtioVsock(EventLoop& loop, std::uint64_t guest_cid, Dial dial, Now now)
    : loop_(loop),
      guest_cid_(guest_cid),
      dial_(std::move(dial)),
      now_(std::move(now)),
      next_host_port_(kFirstHostPort),
      receive_chains_(kChainsPerTurn),
      payload_room_(kChainsPerTurn),
      self_(std::make_shared<VirtioVsock*>(this)) {
  // virtio 1.2, section 5.10.4: le64 guest_cid.
  store_le(std::span<std::byte>(config_), guest_cid);
}

VirtioVsock::~VirtioVsock() = default;

void VirtioVsock::started(RunningQueue& receive, RunningQueue& transmit, std::function<void()> on_broken) {
  receive_ = &receive;
  transmit_ = &transmit;
  on_broken_ = std::move(on_broken);
  transmit_pending_ = true;
  schedule_work();
}

void VirtioVsock::stopped() {
  receive_ = nullptr;
  transmit_ = nullptr;
  transmit_pending_ = false;
  // A restarted driver knows nothing of earlier connections. Bytes that the guest had already sent are still delivered.
  replies_.clear();
  ready_.clear();
  for (auto& [name, link] : links_) link->in_ready = false;
  while (!links_.empty()) remove(*links_.begin()->second);
}

void VirtioVsock::kicked(unsigned index) {
  if (index == 1) transmit_pending_ = true;
  work();
}

void VirtioVsock::connect(Fd socket, std::uint32_t guest_port, Accepted accepted) {
  if (receive_ == nullptr || connection_count() >= kMaxConnections) return;
  VsockName name{.guest_cid = guest_cid_, .host_cid = kParentCid, .guest_port = guest_port, .host_port = 0};
  do {
    name.host_port = next_host_port_;
    next_host_port_ = next_host_port_ == kLastHostPort ? kFirstHostPort : next_host_port_ + 1;
  } while (links_.contains(name));

  Link& link = add(VsockConnection::asked_by_host(name, buffer_size_for_new_connection(), now_()));
  link.stream.connect(std::move(socket));
  link.accepted = std::move(accepted);
  if (!watch_socket(link)) return remove(link);
  settle(link);
  work();
}

// Scheduling.

void VirtioVsock::work() {
  if (working_ || receive_ == nullptr) return;
  working_ = true;
  process_transmit_queue();
  serve_receive_queue();
  working_ = false;
  // Done last, as it destroys the queues.
  if (receive_->queue.broken() || transmit_->queue.broken()) return on_broken_();
  // Refusals that blocked the queue have been sent.
  if (transmit_pending_ && replies_.size() < kMaxReplies) schedule_work();
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

// Guest to host.

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
  // section 5.10.6: packets to the device are device-readable. A packet without a whole header cannot even be answered.
  if (!chain.writable.empty() || total_size(chain.readable) < VsockHeader::kSize) return;
  std::array<std::byte, VsockHeader::kSize> bytes;
  gather(chain.readable, bytes);
  const VsockHeader header = VsockHeader::parse(bytes);

  // The guest may only use its own CID as the source.
  if (header.source_cid != guest_cid_) return;
  const bool to_us = header.destination_cid == kParentCid || header.destination_cid == kHostCid;
  if (!to_us || header.type != kVsockTypeStream) return queue_reset(header);

  const auto found = links_.find(VsockName{.guest_cid = header.source_cid,
                                           .host_cid = header.destination_cid,
                                           .guest_port = header.source_port,
                                           .host_port = header.destination_port});
  if (found == links_.end()) {
    if (header.is(VsockOp::kRequest)) return handle_request(header);
    return queue_reset(header);
  }

  Link& link = *found->second;
  pieces_.assign(chain.readable.begin(), chain.readable.end());
  drop_front(pieces_, VsockHeader::kSize);
  if (header.length > total_size(pieces_) && !header.is(VsockOp::kReset)) return reset(link);
  truncate(pieces_, header.length);
  handle_connection_packet(link, header);
}

void VirtioVsock::handle_request(const VsockHeader& header) {
  if (connection_count() >= kMaxConnections) return queue_reset(header);
  dial(add(VsockConnection::asked_by_guest(header, buffer_size_for_new_connection(), now_())));
}

void VirtioVsock::handle_connection_packet(Link& link, const VsockHeader& header) {
  const Action action = link.connection.take(header);
  switch (action) {
    case Action::kAccept:
      return accept(link);
    case Action::kDeliver:
      deliver(link);
      break;
    case Action::kShutdown:
      if (!link.connection.guest_receives()) link.stream.stop_reading();
      if (!link.connection.guest_sends()) link.stream.finish();
      break;
    case Action::kNothing:
    case Action::kReset:
    case Action::kForget:
      break;
  }
  settle(link, action);
}

void VirtioVsock::accept(Link& link) {
  const Accepted accepted = std::exchange(link.accepted, nullptr);
  if (accepted && !accepted(link.stream.fd(), link.connection.name().host_port)) return reset(link);
  settle(link);
}

void VirtioVsock::deliver(Link& link) {
  bytes_taken_ += total_size(pieces_);
  const std::size_t before = link.stream.buffered_bytes();
  count_written(link, before, link.stream.write(pieces_));
}

void VirtioVsock::flush(Link& link) {
  const std::size_t before = link.stream.buffered_bytes();
  count_written(link, before, link.stream.flush());
}

void VirtioVsock::count_written(Link& link, std::size_t buffered_before, const HostStream::Written& written) {
  buffered_bytes_ += link.stream.buffered_bytes();
  buffered_bytes_ -= buffered_before;
  link.connection.delivered(static_cast<std::uint32_t>(written.bytes));
  if (written.failed) link.connection.host_stopped_reading();
}

void VirtioVsock::queue_reset(const VsockHeader& received) {
  // A reset is never answered with a reset.
  if (!received.is(VsockOp::kReset)) replies_.push_back(received.reset());
}

// Host to guest.

void VirtioVsock::serve_receive_queue() {
  Virtqueue& queue = receive_->queue;
  queue.disable_kicks();
  bool starved = false;
  chains_filled_ = 0;
  while (chains_filled_ < kChainsPerRound && !(replies_.empty() && ready_.empty())) {
    if (serve_next()) continue;
    // The driver has no buffer for us; it kicks when it adds one.
    if (!queue.enable_kicks() || queue.broken()) {
      starved = true;
      break;
    }
    queue.disable_kicks();
  }
  receive_->publish();
  if (!starved && (!replies_.empty() || !ready_.empty())) schedule_work();
}

bool VirtioVsock::serve_next() {
  if (!replies_.empty()) {
    if (!send_packet(replies_.front())) return false;
    replies_.pop_front();
    return true;
  }
  Link* link = ready_.front();
  if (link != nullptr && serve(*link) == Sent::kNoBuffer) return false;
  ready_.pop_front();
  if (link == nullptr) return true;
  link->in_ready = false;
  settle(*link);
  return true;
}

VirtioVsock::Sent VirtioVsock::serve(Link& link) {
  if (link.connection.due() == VsockOp::kData) {
    const Sent sent = send_data(link);
    if (sent != Sent::kNothing) return sent;
  }
  // There was nothing to read after all. Is anything else due?
  const auto op = link.connection.due_control();
  return op ? send_control(link, *op) : Sent::kNothing;
}

VirtioVsock::Sent VirtioVsock::send_control(Link& link, VsockOp op) {
  const VsockHeader header = link.connection.packet(op);
  if (!send_packet(header)) return Sent::kNoBuffer;
  link.connection.sent(header, now_());
  return Sent::kSomething;
}

VirtioVsock::Batch VirtioVsock::gather_buffers(std::size_t limit) {
  pieces_.clear();
  Batch batch;
  while (batch.room < limit && batch.chains < kChainsPerTurn) {
    DescriptorChain& chain = receive_chains_[batch.chains];
    if (receive_->queue.pop(chain) != Virtqueue::Popped::kChain) break;
    const std::size_t size = chain.valid ? total_size(chain.writable) : 0;
    const bool usable = size > VsockHeader::kSize && pieces_.size() + chain.writable.size() <= kMaxPieces;
    if (!usable && batch.chains > 0) {
      // An unusable chain can only be returned if it is the first of a batch: chains before it may have to be put back.
      receive_->queue.put_back(1);
      break;
    }
    payload_room_[batch.chains] =
        usable ? static_cast<std::uint32_t>(std::min(size - VsockHeader::kSize, limit - batch.room)) : 0;
    ++batch.chains;
    if (!usable) break;
    add_buffer(chain, payload_room_[batch.chains - 1]);
    batch.room += payload_room_[batch.chains - 1];
  }
  return batch;
}

void VirtioVsock::add_buffer(const DescriptorChain& chain, std::size_t room) {
  // Data follows the space for the header.
  std::size_t skip = VsockHeader::kSize;
  for (iovec piece : chain.writable) {
    const std::size_t skipped = std::min(skip, piece.iov_len);
    skip -= skipped;
    piece.iov_base = static_cast<std::byte*>(piece.iov_base) + skipped;
    piece.iov_len = std::min(piece.iov_len - skipped, room);
    room -= piece.iov_len;
    if (piece.iov_len > 0) pieces_.push_back(piece);
  }
}

VirtioVsock::Sent VirtioVsock::send_data(Link& link) {
  VsockConnection& connection = link.connection;
  // Reads directly into as many guest buffers as needed.
  const Batch batch = gather_buffers(std::min<std::size_t>(connection.credit(), kBytesPerTurn));
  if (batch.chains == 0) return Sent::kNoBuffer;
  if (batch.room == 0) {
    // A buffer without room for data may still serve for a control packet; data waits for a larger one.
    const DescriptorChain& chain = receive_chains_[0];
    const auto op = connection.due_control();
    if (op && chain.valid && total_size(chain.writable) >= VsockHeader::kSize) {
      receive_->queue.put_back(1);
      return send_control(link, *op);
    }
    complete_receive(chain.head, 0);
    return Sent::kSomething;
  }

  const HostStream::Read read = link.stream.read(pieces_);
  if (read.got != HostStream::Got::kBytes) {
    receive_->queue.put_back(static_cast<std::uint16_t>(batch.chains));
    connection.host_drained();
    if (read.got == HostStream::Got::kNothingNow) return Sent::kNothing;
    connection.host_finished();
    if (read.got == HostStream::Got::kFailed) connection.host_stopped_reading();
    return Sent::kNothing;
  }

  const auto now = now_();
  std::size_t left = read.bytes;
  std::size_t used = 0;
  for (; used < batch.chains && left > 0; ++used) {
    const auto length = static_cast<std::uint32_t>(std::min<std::size_t>(left, payload_room_[used]));
    const VsockHeader header = connection.packet(VsockOp::kData, length);
    scatter(header.serialize(), receive_chains_[used].writable);
    complete_receive(receive_chains_[used].head, length + static_cast<std::uint32_t>(VsockHeader::kSize));
    connection.sent(header, now);
    left -= length;
  }
  receive_->queue.put_back(static_cast<std::uint16_t>(batch.chains - used));
  return Sent::kSomething;
}

bool VirtioVsock::next_receive_chain(DescriptorChain& chain) {
  // Buffers that cannot hold a header are returned unused, a few per call: the caller counts calls.
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

// The host's sockets.

bool VirtioVsock::watch_socket(Link& link) {
  // Edge-triggered: the connection remembers what an event reported until a read or write shows otherwise, and a
  // connection that waits for credit or buffers costs nothing.
  auto watch = loop_.watch_fd(link.stream.fd(), EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                              [this, &link](std::uint32_t events) { on_socket(link, events); });
  if (!watch) return false;
  link.watch = std::move(*watch);
  return true;
}

void VirtioVsock::on_socket(Link& link, std::uint32_t events) {
  const bool hung_up = (events & (EPOLLHUP | EPOLLERR)) != 0;
  if (hung_up || (events & (EPOLLIN | EPOLLRDHUP)) != 0) link.connection.host_readable();
  if (link.connection.state() == State::kDialing) {
    if (hung_up || (events & EPOLLOUT) != 0) on_dialled(link);
    return work();
  }
  if ((hung_up || (events & EPOLLOUT) != 0) && link.stream.buffered_bytes() > 0) flush(link);
  settle(link, hung_up ? link.connection.host_hung_up() : Action::kNothing);
  work();
}

void VirtioVsock::on_dialled(Link& link) {
  int failure = 0;
  socklen_t size = sizeof failure;
  if (::getsockopt(link.stream.fd(), SOL_SOCKET, SO_ERROR, &failure, &size) != 0 || failure != 0) return reset(link);
  link.connection.host_connected();
  settle(link);
}

void VirtioVsock::dial(Link& link) {
  DialResult result = dial_(link.connection.name().host_port);
  link.busy = result.status == DialResult::Status::kBusy;
  if (link.busy) return settle(link);
  link.stream.connect(std::move(result.socket));
  if (result.status == DialResult::Status::kRefused || !watch_socket(link)) return reset(link);
  if (result.status == DialResult::Status::kConnected) link.connection.host_connected();
  settle(link);
}

// Lifetime of connections.

std::uint32_t VirtioVsock::buffer_size_for_new_connection() const {
  // At most 128 × 256 KiB + 896 × 64 KiB + 3072 × 16 KiB = 136 MiB in all, however many connections the guest opens.
  const std::size_t count = connection_count();
  if (count < 128) return 256 * 1024;
  if (count < 1024) return 64 * 1024;
  return 16 * 1024;
}

VirtioVsock::Link& VirtioVsock::add(const VsockConnection& connection) {
  return *links_.emplace(connection.name(), std::make_unique<Link>(connection)).first->second;
}

void VirtioVsock::settle(Link& link, Action action) {
  if (action == Action::kReset) return reset(link);
  if (action == Action::kForget) return remove(link);
  if (!link.connection.host_reads()) {
    buffered_bytes_ -= link.stream.buffered_bytes();
    link.stream.drop();
  }
  if (!link.in_ready && link.connection.due()) {
    link.in_ready = true;
    ready_.push_back(&link);
  }
  if (!link.connection.deadline()) {
    timed_.erase(&link);
    if (timed_.empty()) tick_.cancel();
    return;
  }
  timed_.insert(&link);
  if (tick_.active()) return;
  tick_ = loop_.watch_timer(
      kTick, [this] { on_tick(); }, true);
}

void VirtioVsock::reset(Link& link) {
  replies_.push_back(link.connection.reset_packet());
  remove(link);
}

void VirtioVsock::remove(Link& link) {
  if (link.in_ready) std::replace(ready_.begin(), ready_.end(), &link, static_cast<Link*>(nullptr));
  timed_.erase(&link);
  if (timed_.empty()) tick_.cancel();
  // Events of the socket no longer concern this connection.
  link.watch.cancel();
  HostStream stream = std::move(link.stream);
  links_.erase(VsockName(link.connection.name()));
  if (stream.buffered_bytes() > 0) linger(std::move(stream));
}

void VirtioVsock::linger(HostStream stream) {
  stream.finish();
  auto rest = std::make_unique<Rest>(std::move(stream));
  Rest* const added = rest.get();
  const auto end = [this, added] {
    buffered_bytes_ -= added->stream.buffered_bytes();
    lingering_.erase(added);
  };
  const int fd = added->stream.fd();
  lingering_.emplace(added, std::move(rest));
  auto watch = loop_.watch_fd(fd, EPOLLOUT | EPOLLET, [this, added, end](std::uint32_t) {
    const std::size_t before = added->stream.buffered_bytes();
    added->stream.flush();
    buffered_bytes_ -= before - added->stream.buffered_bytes();
    if (added->stream.buffered_bytes() == 0) end();
  });
  if (!watch) return end();
  added->watch = std::move(*watch);
}

void VirtioVsock::on_tick() {
  const Clock::time_point now = now_();
  // Round robin, so that every link gets its turn.
  std::vector<Link*> due(timed_.upper_bound(last_dialled_), timed_.end());
  due.insert(due.end(), timed_.begin(), timed_.upper_bound(last_dialled_));
  int dials = 0;
  for (Link* link : due) {
    if (*link->connection.deadline() <= now) {
      settle(*link, link->connection.expire());
    } else if (link->busy && dials < kDialsPerTick) {
      ++dials;
      last_dialled_ = link;
      dial(*link);
    }
  }
  work();
}

}  // namespace nitro::proc
