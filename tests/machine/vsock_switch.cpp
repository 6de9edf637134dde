// SPDX-License-Identifier: Apache-2.0
#include "tests/machine/vsock_switch.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "enclave_proc/qemu/vsock/pieces.h"
#include "src/base/bytes.h"

namespace nitro::machine {

using proc::DescriptorChain;
using proc::RunningQueue;
using proc::Virtqueue;
using proc::VsockHeader;
using proc::VsockOp;

namespace {

// Packets of one guest in one round of the loop, and the bytes of one packet that move at once.
constexpr int kPacketsPerRound = 256;
constexpr std::size_t kMostPayload = std::size_t{64} * 1024;
// With this many refusals unread, nothing more is taken from a guest.
constexpr std::size_t kMostReplies = 1024;
// Receive buffers too small for a packet that are returned in one go.
constexpr int kUselessBuffers = 16;

}  // namespace

VsockSwitch::VsockSwitch(EventLoop& loop) : loop_(loop), self_(std::make_shared<VsockSwitch*>(this)) {}

VsockSwitch::~VsockSwitch() = default;

std::unique_ptr<VsockPort> VsockSwitch::add(std::uint64_t cid, VsockEndpoint* endpoint) {
  // The constructor is private: make_unique cannot reach it.
  std::unique_ptr<VsockPort> port(new VsockPort(*this, cid, endpoint));
  ports_.emplace(cid, port.get());
  return port;
}

void VsockSwitch::remove(const VsockPort& port) {
  ports_.erase(port.cid_);
  reset_connections_of(port.cid_);
}

VsockPort* VsockSwitch::running(std::uint64_t cid) const {
  const auto found = ports_.find(cid);
  return found == ports_.end() || found->second->receive_ == nullptr ? nullptr : found->second;
}

void VsockSwitch::wake() {
  if (std::exchange(scheduled_, true)) return;
  loop_.defer([weak = std::weak_ptr<VsockSwitch*>(self_)] {
    const auto self = weak.lock();
    if (!self) return;
    (*self)->scheduled_ = false;
    (*self)->work();
  });
}

void VsockSwitch::work() {
  if (working_) return;
  working_ = true;
  bool moved = false;
  for (const auto& [cid, port] : ports_) moved |= port->serve();
  std::vector<std::function<void()>> broken;
  for (const auto& [cid, port] : ports_) {
    port->publish();
    if (port->broken()) broken.push_back(port->on_broken_);
  }
  working_ = false;
  // Each stops its port, which changes nothing that is used above.
  for (const auto& on_broken : broken) on_broken();
  if (moved) wake();
}

void VsockSwitch::note(const VsockHeader& header) {
  const std::array<std::uint64_t, 4> there{header.source_cid, header.source_port, header.destination_cid,
                                           header.destination_port};
  const std::array<std::uint64_t, 4> back{there[2], there[3], there[0], there[1]};
  if (header.is(VsockOp::kResponse)) {
    connections_.insert(there);
    connections_.insert(back);
  } else if (header.is(VsockOp::kReset)) {
    connections_.erase(there);
    connections_.erase(back);
  }
}

void VsockSwitch::reset_connections_of(std::uint64_t cid) {
  const auto first = connections_.lower_bound({cid, 0, 0, 0});
  auto end = first;
  for (; end != connections_.end() && (*end)[0] == cid; ++end) {
    const auto& [source, source_port, destination, destination_port] = *end;
    VsockPort* const peer = running(destination);
    if (peer == nullptr) continue;
    VsockHeader reset;
    reset.source_cid = source;
    reset.source_port = static_cast<std::uint32_t>(source_port);
    reset.destination_cid = destination;
    reset.destination_port = static_cast<std::uint32_t>(destination_port);
    reset.op = static_cast<std::uint16_t>(VsockOp::kReset);
    peer->replies_.push_back(reset);
  }
  connections_.erase(first, end);
  std::erase_if(connections_, [cid](const auto& name) { return name[2] == cid; });
  wake();
}

VsockPort::VsockPort(VsockSwitch& owner, std::uint64_t cid, VsockEndpoint* endpoint)
    : owner_(owner), cid_(cid), endpoint_(endpoint) {
  // virtio 1.2, section 5.10.4: le64 guest_cid.
  store_le(std::span<std::byte>(config_), cid);
}

VsockPort::~VsockPort() {
  owner_.remove(*this);
}

void VsockPort::started(RunningQueue& receive, RunningQueue& transmit, std::function<void()> on_broken) {
  receive_ = &receive;
  transmit_ = &transmit;
  on_broken_ = std::move(on_broken);
  owner_.wake();
}

void VsockPort::stopped() {
  receive_ = nullptr;
  transmit_ = nullptr;
  buffer_.reset();
  outgoing_.reset();
  replies_.clear();
  if (endpoint_ != nullptr) endpoint_->forget();
  owner_.reset_connections_of(cid_);
}

void VsockPort::kicked(unsigned /*index*/) {
  owner_.work();
}

bool VsockPort::broken() const {
  return receive_ != nullptr && (receive_->queue.broken() || transmit_->queue.broken());
}

void VsockPort::publish() {
  if (receive_ == nullptr) return;
  receive_->publish();
  transmit_->publish();
}

bool VsockPort::serve() {
  if (receive_ == nullptr) return false;
  bool moved = send_replies();
  moved |= send_from_endpoint();
  moved |= forward();
  return moved;
}

std::optional<std::size_t> VsockPort::room() {
  Virtqueue& queue = receive_->queue;
  for (int useless = 0; !buffer_ && useless < kUselessBuffers;) {
    DescriptorChain chain;
    const Virtqueue::Popped popped = queue.pop(chain);
    if (popped == Virtqueue::Popped::kBroken) break;
    if (popped == Virtqueue::Popped::kEmpty) {
      // A kick comes with the next buffer, unless there is one already.
      if (!queue.enable_kicks()) break;
    } else if (chain.valid && proc::total_size(chain.writable) > VsockHeader::kSize) {
      buffer_ = std::move(chain);
    } else {
      queue.complete(chain.head, 0);
      ++useless;
    }
  }
  if (!buffer_) return std::nullopt;
  return std::min(proc::total_size(buffer_->writable) - VsockHeader::kSize, kMostPayload);
}

void VsockPort::deliver(const VsockHeader& header, std::span<const std::byte> payload) {
  proc::scatter(header.serialize(), buffer_->writable);
  proc::drop_front(buffer_->writable, VsockHeader::kSize);
  proc::scatter(payload, buffer_->writable);
  receive_->queue.complete(buffer_->head, static_cast<std::uint32_t>(VsockHeader::kSize + payload.size()));
  buffer_.reset();
}

bool VsockPort::send_replies() {
  bool moved = false;
  while (!replies_.empty() && room()) {
    deliver(replies_.front(), {});
    replies_.pop_front();
    moved = true;
  }
  return moved;
}

bool VsockPort::send_from_endpoint() {
  if (endpoint_ == nullptr) return false;
  std::array<std::byte, kMostPayload> payload;
  int count = 0;
  for (; count < kPacketsPerRound; ++count) {
    const auto available = room();
    if (!available) break;
    const auto header = endpoint_->next(std::span(payload).first(*available));
    if (!header) break;
    deliver(*header, std::span(payload).first(header->length));
  }
  return count > 0;
}

bool VsockPort::forward() {
  bool moved = false;
  for (int count = 0; count < kPacketsPerRound && replies_.size() < kMostReplies; ++count) {
    if (!outgoing_ && !take_next()) break;
    if (!deliver_outgoing()) break;
    moved = true;
  }
  return moved;
}

bool VsockPort::take_next() {
  Virtqueue& queue = transmit_->queue;
  while (true) {
    DescriptorChain chain;
    const Virtqueue::Popped popped = queue.pop(chain);
    if (popped == Virtqueue::Popped::kBroken) return false;
    if (popped == Virtqueue::Popped::kEmpty) {
      if (queue.enable_kicks()) continue;
      return false;
    }
    std::array<std::byte, VsockHeader::kSize> bytes{};
    proc::gather(chain.readable, bytes);
    const VsockHeader header = VsockHeader::parse(bytes);
    // virtio 1.2, section 5.10.6: packets to the device are device-readable. One without a header has no answer, nor
    // has one that claims the CID of another guest.
    if (chain.valid && chain.writable.empty() && proc::total_size(chain.readable) >= VsockHeader::kSize &&
        header.source_cid == cid_) {
      proc::drop_front(chain.readable, VsockHeader::kSize);
      outgoing_.emplace(Outgoing{.chain = std::move(chain), .header = header, .done = 0});
      return true;
    }
    queue.complete(chain.head, 0);
  }
}

// Returns false when the packet has to wait.
bool VsockPort::deliver_outgoing() {
  const VsockHeader& header = outgoing_->header;
  const std::size_t left = header.length - outgoing_->done;
  if (header.type != proc::kVsockTypeStream || left > proc::total_size(outgoing_->chain.readable)) {
    refuse(header);
    return true;
  }
  VsockPort* const target = header.destination_cid == cid_ ? nullptr : owner_.running(header.destination_cid);
  if (target != nullptr) return pass_to(*target);
  if (endpoint_ != nullptr && left <= kMostPayload) {
    std::vector<std::byte> payload(left);
    proc::gather(outgoing_->chain.readable, payload);
    if (endpoint_->take(header, payload)) {
      finish_outgoing();
      return true;
    }
  }
  refuse(header);
  return true;
}

bool VsockPort::pass_to(VsockPort& target) {
  Outgoing& packet = *outgoing_;
  std::array<std::byte, kMostPayload> payload;
  do {
    const auto available = target.room();
    if (!available) return false;
    VsockHeader part = packet.header;
    const std::size_t length = std::min<std::size_t>(*available, packet.header.length - packet.done);
    part.length = static_cast<std::uint32_t>(length);
    proc::gather(packet.chain.readable, std::span(payload).first(length));
    proc::drop_front(packet.chain.readable, length);
    target.deliver(part, std::span(payload).first(length));
    packet.done += length;
  } while (packet.done < packet.header.length);
  owner_.note(packet.header);
  finish_outgoing();
  return true;
}

void VsockPort::refuse(const VsockHeader& header) {
  // A reset is never answered with a reset.
  if (!header.is(VsockOp::kReset)) replies_.push_back(header.reset());
  finish_outgoing();
}

void VsockPort::finish_outgoing() {
  transmit_->queue.complete(outgoing_->chain.head, 0);
  outgoing_.reset();
}

}  // namespace nitro::machine
