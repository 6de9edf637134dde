// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/vhost_user.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "src/base/bytes.h"

namespace nitro::proc {
namespace {

// Request numbers: vhost-user protocol, "Front-end message types".
enum RequestType : std::uint32_t {
  kGetFeatures = 1,
  kSetFeatures = 2,
  kSetOwner = 3,
  kResetOwner = 4,
  kSetMemTable = 5,
  kSetVringNum = 8,
  kSetVringAddr = 9,
  kSetVringBase = 10,
  kGetVringBase = 11,
  kSetVringKick = 12,
  kSetVringCall = 13,
  kSetVringErr = 14,
  kGetProtocolFeatures = 15,
  kSetProtocolFeatures = 16,
  kGetQueueNum = 17,
  kSetVringEnable = 18,
  kGetConfig = 24,
};

// "Message Specification", "Header".
constexpr std::uint32_t kVersionMask = 0x3;
constexpr std::uint32_t kVersion = 0x1;
constexpr std::uint32_t kFlagNeedReply = 0x8;

// Requests handled in one round of the loop, so that a busy front-end starves nobody.
constexpr int kRequestsPerRound = 32;
// How long to wait for descriptors to become available.
constexpr std::chrono::milliseconds kDescriptorPause(100);

// QEMU uses at most this many entries per queue (VIRTQUEUE_MAX_SIZE, include/hw/virtio/virtio.h). The specification
// allows 32768, but the time that a hostile ring can cost grows with the square of its size.
constexpr std::uint32_t kMaxQueueSize = 1024;

// Feature bit 30 says that protocol features exist ("Communication").
constexpr std::uint64_t kFeatureProtocolFeatures = std::uint64_t{1} << 30;
// "Protocol features".
constexpr std::uint64_t kProtocolMultiQueue = std::uint64_t{1} << 0;
constexpr std::uint64_t kProtocolReplyAck = std::uint64_t{1} << 3;
constexpr std::uint64_t kProtocolConfig = std::uint64_t{1} << 9;
constexpr std::uint64_t kOfferedProtocolFeatures = kProtocolMultiQueue | kProtocolReplyAck | kProtocolConfig;

// SET_VRING_KICK, _CALL, _ERR: bits 0 to 7 are the queue, bit 8 says that no descriptor is attached.
constexpr std::uint64_t kQueueIndexMask = 0xff;
constexpr std::uint64_t kNoFd = 0x100;

// "Virtio device config space": offset, size, flags, then the bytes.
constexpr std::size_t kConfigHeaderSize = 12;
// "Memory regions description": count and padding, then regions of four 64-bit numbers.
constexpr std::size_t kMemoryHeaderSize = 8;
constexpr std::size_t kMemoryRegionSize = 32;

struct VringState {
  std::uint32_t index;
  std::uint32_t number;
};

Result<VringState> vring_state(std::span<const std::byte> payload) {
  if (payload.size() < 8) return vhost_user_error("a vring state of " + std::to_string(payload.size()) + " bytes");
  return VringState{native<std::uint32_t>(payload, 0), native<std::uint32_t>(payload, 4)};
}

Result<std::uint64_t> number(std::span<const std::byte> payload) {
  if (payload.size() < 8) return vhost_user_error("a number of " + std::to_string(payload.size()) + " bytes");
  return native<std::uint64_t>(payload, 0);
}

std::vector<std::byte> payload_of(std::uint64_t value) {
  std::vector<std::byte> payload(sizeof value);
  put_native(payload, 0, value);
  return payload;
}

}  // namespace

Result<std::unique_ptr<VhostUserBackend>> VhostUserBackend::start(EventLoop& loop, Fd socket, VhostUserDevice& device,
                                                                  EndCallback on_end) {
  NITRO_CHECK(set_nonblocking(socket.get(), true));
  // The constructor is private: make_unique cannot reach it.
  std::unique_ptr<VhostUserBackend> backend(new VhostUserBackend(loop, std::move(socket), device, std::move(on_end)));
  NITRO_TRY(backend->socket_watch_, loop.watch_fd(backend->channel_.fd(), EPOLLIN,
                                                  [self = backend.get()](std::uint32_t) { self->on_readable(); }));
  return backend;
}

VhostUserBackend::VhostUserBackend(EventLoop& loop, Fd socket, VhostUserDevice& device, EndCallback on_end)
    : loop_(loop), device_(device), on_end_(std::move(on_end)), channel_(std::move(socket)) {}

VhostUserBackend::~VhostUserBackend() {
  stop_device();
}

void VhostUserBackend::end(std::optional<Error> reason) {
  stop_device();
  socket_watch_.cancel();
  pause_.cancel();
  channel_.close();
  // The callback may destroy this object.
  const EndCallback callback = std::exchange(on_end_, nullptr);
  if (callback) callback(std::move(reason));
}

void VhostUserBackend::on_readable() {
  using Received = VhostUserChannel::Received;
  for (int count = 0; count < kRequestsPerRound; ++count) {
    Request request;
    auto received = channel_.receive(request);
    if (!received) return end(std::move(received).error());
    if (*received == Received::kHungUp) return end(std::nullopt);
    if (*received == Received::kPart) return;
    if (*received == Received::kNoDescriptors) return wait_for_descriptors();
    if (auto handled = handle(request); !handled) return end(std::move(handled).error());
  }
}

void VhostUserBackend::wait_for_descriptors() {
  // The socket stays readable meanwhile. Modifying an existing watch does not fail (epoll_ctl(2): EPOLL_CTL_MOD).
  static_cast<void>(loop_.update(socket_watch_, 0));
  pause_ = loop_.watch_timer(kDescriptorPause, [this] { static_cast<void>(loop_.update(socket_watch_, EPOLLIN)); });
}

Result<void> VhostUserBackend::handle(Request& request) {
  if ((request.flags & kVersionMask) != kVersion) {
    return vhost_user_error("protocol version " + std::to_string(request.flags & kVersionMask));
  }
  const Handler handler = handler_of(request.type);
  Result<Answer> answer = Answer();
  if (handler != nullptr) answer = (this->*handler)(request);
  if (answer && *answer) return channel_.reply(request.type, **answer);
  // "REPLY_ACK": zero for success. A front-end that asked for a reply handles a failed request itself; otherwise a
  // failure ends the conversation. This very request may have enabled the option.
  const bool wants_answer = (request.flags & kFlagNeedReply) != 0 && (protocol_features_ & kProtocolReplyAck) != 0;
  if (wants_answer) return channel_.reply(request.type, payload_of(answer && handler != nullptr ? 0 : 1));
  // Unknown requests belong to features that were not offered, or to later versions; they can only be ignored.
  if (!answer) return Failure(std::move(answer).error());
  return {};
}

VhostUserBackend::Handler VhostUserBackend::handler_of(std::uint32_t type) {
  switch (type) {
    case kGetFeatures:
      return &VhostUserBackend::get_features;
    case kSetFeatures:
      return &VhostUserBackend::set_features;
    case kGetProtocolFeatures:
      return &VhostUserBackend::get_protocol_features;
    case kSetProtocolFeatures:
      return &VhostUserBackend::set_protocol_features;
    case kGetQueueNum:
      return &VhostUserBackend::get_queue_count;
    case kSetOwner:
    // Deprecated: "ignore this message, or use it to disable all rings".
    case kResetOwner:
      return &VhostUserBackend::acknowledge;
    case kSetMemTable:
      return &VhostUserBackend::set_memory_table;
    case kGetConfig:
      return &VhostUserBackend::get_config;
    case kSetVringNum:
      return &VhostUserBackend::set_queue_size;
    case kSetVringBase:
      return &VhostUserBackend::set_queue_base;
    case kGetVringBase:
      return &VhostUserBackend::get_queue_base;
    case kSetVringAddr:
      return &VhostUserBackend::set_queue_addresses;
    case kSetVringEnable:
      return &VhostUserBackend::enable_queue;
    case kSetVringKick:
      return &VhostUserBackend::set_kick;
    case kSetVringCall:
      return &VhostUserBackend::set_call;
    case kSetVringErr:
      return &VhostUserBackend::set_error;
    default:
      return nullptr;
  }
}

std::uint64_t VhostUserBackend::offered_features() const {
  return device_.device_features() | kFeatureVersion1 | kFeatureRingEventIndex | kFeatureProtocolFeatures;
}

Result<VhostUserBackend::Answer> VhostUserBackend::get_features(Request& /*request*/) {
  return payload_of(offered_features());
}

Result<VhostUserBackend::Answer> VhostUserBackend::set_features(Request& request) {
  NITRO_TRY(const std::uint64_t features, number(request.payload));
  if ((features & ~offered_features()) != 0) return vhost_user_error("features that were not offered");
  // virtio 1.2, section 6: a device may insist on VIRTIO_F_VERSION_1. We cannot: QEMU sends plain 0 when it resets the
  // device.
  features_ = features;
  NITRO_CHECK(refresh());
  return Answer();
}

Result<VhostUserBackend::Answer> VhostUserBackend::get_protocol_features(Request& /*request*/) {
  return payload_of(kOfferedProtocolFeatures);
}

Result<VhostUserBackend::Answer> VhostUserBackend::set_protocol_features(Request& request) {
  NITRO_TRY(const std::uint64_t features, number(request.payload));
  if ((features & ~kOfferedProtocolFeatures) != 0) return vhost_user_error("protocol features that were not offered");
  protocol_features_ = features;
  return Answer();
}

Result<VhostUserBackend::Answer> VhostUserBackend::get_queue_count(Request& /*request*/) {
  return payload_of(kQueueCount);
}

Result<VhostUserBackend::Answer> VhostUserBackend::acknowledge(Request& /*request*/) {
  return Answer();
}

Result<VhostUserBackend::Answer> VhostUserBackend::get_config(Request& request) {
  const std::span<const std::byte> payload = request.payload;
  const std::span<const std::byte> config = device_.config_space();
  if (payload.size() < kConfigHeaderSize) return vhost_user_error("a configuration request that is too short");
  const auto offset = native<std::uint32_t>(payload, 0);
  const auto size = native<std::uint32_t>(payload, 4);
  if (offset > config.size() || size > config.size() - offset || payload.size() < kConfigHeaderSize + size) {
    // "back-end uses zero length of payload to indicate an error".
    return Answer(std::in_place);
  }
  std::vector<std::byte> answer(payload.begin(), payload.begin() + kConfigHeaderSize);
  answer.insert(answer.end(), config.begin() + offset, config.begin() + offset + size);
  return answer;
}

Result<GuestMemory> VhostUserBackend::memory_of(const Request& request) const {
  const std::span<const std::byte> payload = request.payload;
  if (payload.size() < kMemoryHeaderSize) return vhost_user_error("a memory table that is too short");
  const auto count = native<std::uint32_t>(payload, 0);
  if (count > GuestMemory::kMaxRegions || payload.size() < kMemoryHeaderSize + count * kMemoryRegionSize) {
    return vhost_user_error("a memory table whose regions do not fit into it");
  }
  if (request.fds.size() != count) {
    return vhost_user_error("a memory table of " + std::to_string(count) + " regions and " +
                            std::to_string(request.fds.size()) + " descriptors");
  }
  GuestMemory memory;
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto region = payload.subspan(kMemoryHeaderSize + i * kMemoryRegionSize, kMemoryRegionSize);
    MemoryRegionLayout layout;
    layout.guest_address = native<std::uint64_t>(region, 0);
    layout.size = native<std::uint64_t>(region, 8);
    layout.user_address = native<std::uint64_t>(region, 16);
    layout.file_offset = native<std::uint64_t>(region, 24);
    if (auto added = memory.add(layout, request.fds[i].get()); !added) {
      return fail_within("QEMU's memory table", std::move(added).error());
    }
  }
  return memory;
}

Result<VhostUserBackend::Answer> VhostUserBackend::set_memory_table(Request& request) {
  NITRO_TRY(GuestMemory memory, memory_of(request));
  // Between two events nobody holds pointers into guest memory except the rings, which are recreated.
  for (unsigned i = 0; i < kQueueCount; ++i) {
    if (queues_[i]) settings_[i].base = queues_[i]->queue.next_available();
  }
  memory_ = std::move(memory);
  NITRO_CHECK(running_ ? move_queues() : refresh());
  return Answer();
}

Result<void> VhostUserBackend::move_queues() {
  for (unsigned i = 0; i < kQueueCount; ++i) {
    auto moved = make_queue(settings_[i]);
    if (!moved) {
      stop_device();
      return Failure(std::move(moved).error());
    }
    queues_[i]->queue = moved->queue;
  }
  return {};
}

Result<VhostUserBackend::QueueSettings*> VhostUserBackend::queue_named(std::uint64_t index) {
  if (index >= kQueueCount) return vhost_user_error("queue " + std::to_string(index) + ", of two");
  return &settings_[index];
}

Result<VhostUserBackend::QueueSettings*> VhostUserBackend::stopped_queue(std::uint64_t index) {
  NITRO_TRY(QueueSettings * queue, queue_named(index));
  if (running_) return vhost_user_error("a queue is changed while it runs");
  return queue;
}

Result<VhostUserBackend::Answer> VhostUserBackend::set_queue_size(Request& request) {
  NITRO_TRY(const VringState state, vring_state(request.payload));
  NITRO_TRY(QueueSettings * queue, stopped_queue(state.index));
  if (state.number == 0 || state.number > kMaxQueueSize || !std::has_single_bit(state.number)) {
    return vhost_user_error("a queue of " + std::to_string(state.number) + " entries");
  }
  queue->size = state.number;
  return Answer();
}

Result<VhostUserBackend::Answer> VhostUserBackend::set_queue_base(Request& request) {
  NITRO_TRY(const VringState state, vring_state(request.payload));
  NITRO_TRY(QueueSettings * queue, stopped_queue(state.index));
  if (state.number > 0xffff) return vhost_user_error("a queue position past 65535");
  queue->base = static_cast<std::uint16_t>(state.number);
  return Answer();
}

Result<VhostUserBackend::Answer> VhostUserBackend::set_queue_addresses(Request& request) {
  // "Vring address description": index, flags, then descriptor, used, available, log.
  const std::span<const std::byte> payload = request.payload;
  if (payload.size() < 40) return vhost_user_error("a vring address description that is too short");
  NITRO_TRY(QueueSettings * queue, stopped_queue(native<std::uint32_t>(payload, 0)));
  queue->descriptors = native<std::uint64_t>(payload, 8);
  queue->used = native<std::uint64_t>(payload, 16);
  queue->available = native<std::uint64_t>(payload, 24);
  queue->addresses_known = true;
  queue->broken = false;
  NITRO_CHECK(refresh());
  return Answer();
}

Result<VhostUserBackend::Answer> VhostUserBackend::get_queue_base(Request& request) {
  NITRO_TRY(const VringState state, vring_state(request.payload));
  NITRO_TRY(QueueSettings * queue, queue_named(state.index));
  // "stop ring upon receiving VHOST_USER_GET_VRING_BASE". Our device cannot run with one of its queues stopped.
  stop_device();
  kick_watches_[state.index].cancel();
  queue->kick.reset();
  queue->broken = false;
  std::vector<std::byte> payload(8);
  put_native<std::uint32_t>(payload, 0, state.index);
  put_native<std::uint32_t>(payload, 4, queue->base);
  return payload;
}

Result<VhostUserBackend::Answer> VhostUserBackend::enable_queue(Request& request) {
  NITRO_TRY(const VringState state, vring_state(request.payload));
  NITRO_TRY(QueueSettings * queue, queue_named(state.index));
  queue->enabled = state.number != 0;
  NITRO_CHECK(refresh());
  return Answer();
}

Result<VhostUserBackend::QueueFd> VhostUserBackend::queue_fd(Request& request) {
  NITRO_TRY(const std::uint64_t value, number(request.payload));
  QueueFd named{.index = static_cast<unsigned>(value & kQueueIndexMask), .fd = Fd()};
  NITRO_CHECK(queue_named(named.index));
  if ((value & kNoFd) != 0) return named;
  if (request.fds.size() != 1) return vhost_user_error("an event descriptor is missing");
  named.fd = std::move(request.fds.front());
  // A blocking descriptor would let the front-end stall us in the middle of a read or write.
  NITRO_CHECK(set_nonblocking(named.fd.get(), true));
  return named;
}

Result<VhostUserBackend::Answer> VhostUserBackend::set_error(Request& request) {
  NITRO_TRY(QueueFd named, queue_fd(request));
  settings_[named.index].error = std::move(named.fd);
  return Answer();
}

Result<VhostUserBackend::Answer> VhostUserBackend::set_call(Request& request) {
  NITRO_TRY(QueueFd named, queue_fd(request));
  std::optional<RunningQueue>& running = queues_[named.index];
  if (!running) {
    settings_[named.index].call = std::move(named.fd);
    return Answer();
  }
  running->call = std::move(named.fd);
  // Buffers may have been used while no call descriptor was set; an extra interrupt does no harm.
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(running->call.get(), &one, sizeof one);
  return Answer();
}

Result<VhostUserBackend::Answer> VhostUserBackend::set_kick(Request& request) {
  NITRO_TRY(QueueFd named, queue_fd(request));
  kick_watches_[named.index].cancel();
  settings_[named.index].kick = std::move(named.fd);
  if (settings_[named.index].kick.valid() && running_) NITRO_CHECK(watch_kick(named.index));
  NITRO_CHECK(refresh());
  return Answer();
}

Result<void> VhostUserBackend::watch_kick(unsigned index) {
  NITRO_TRY(kick_watches_[index],
            loop_.watch_fd(settings_[index].kick.get(), EPOLLIN, [this, index](std::uint32_t) { on_kick(index); }));
  return {};
}

Result<void> VhostUserBackend::refresh() {
  const bool ready = std::all_of(settings_.begin(), settings_.end(), [this](const QueueSettings& queue) {
    // "If VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts directly in the enabled state."
    const bool enabled = queue.enabled || (features_ & kFeatureProtocolFeatures) == 0;
    return enabled && !queue.broken && queue.size != 0 && queue.addresses_known && queue.kick.valid();
  });
  if (ready == running_) return {};
  if (ready) return start_device();
  stop_device();
  return {};
}

Result<RunningQueue> VhostUserBackend::make_queue(const QueueSettings& settings) {
  Virtqueue::Layout layout;
  layout.size = static_cast<std::uint16_t>(settings.size);
  layout.descriptors = memory_.at_user_address(settings.descriptors, Virtqueue::descriptor_table_bytes(settings.size));
  layout.available = memory_.at_user_address(settings.available, Virtqueue::available_ring_bytes(settings.size));
  layout.used = memory_.at_user_address(settings.used, Virtqueue::used_ring_bytes(settings.size));
  layout.next_available = settings.base;
  layout.event_index = (features_ & kFeatureRingEventIndex) != 0;
  auto queue = Virtqueue::create(layout, memory_);
  if (!queue) return vhost_user_error("a queue that does not lie in guest memory");
  return RunningQueue{*queue, Fd()};
}

Result<void> VhostUserBackend::start_device() {
  for (unsigned i = 0; i < kQueueCount; ++i) {
    auto queue = make_queue(settings_[i]);
    if (!queue) {
      queues_ = {};
      return Failure(std::move(queue).error());
    }
    queues_[i].emplace(std::move(*queue));
  }
  for (unsigned i = 0; i < kQueueCount; ++i) {
    if (auto watched = watch_kick(i); !watched) {
      for (EventLoop::Watch& watch : kick_watches_) watch.cancel();
      queues_ = {};
      return watched;
    }
    queues_[i]->call = std::move(settings_[i].call);
  }
  running_ = true;
  device_failure_.clear();
  device_.started(*queues_[0], *queues_[1], [this] { on_broken(); });
  return {};
}

void VhostUserBackend::stop_device() {
  if (!running_) return;
  running_ = false;
  device_.stopped();
  for (unsigned i = 0; i < kQueueCount; ++i) {
    kick_watches_[i].cancel();
    settings_[i].base = queues_[i]->queue.next_available();
    settings_[i].call = std::move(queues_[i]->call);
    queues_[i].reset();
  }
}

void VhostUserBackend::on_kick(unsigned index) {
  std::uint64_t count = 0;
  const ssize_t got = ::read(settings_[index].kick.get(), &count, sizeof count);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    // Not an eventfd, and its other end is gone: it would be readable forever.
    kick_watches_[index].cancel();
    return;
  }
  device_.kicked(index);
}

void VhostUserBackend::on_broken() {
  // The driver wrote invalid data into a ring. The machine goes on without the device, whichever queue it was: the
  // error descriptor notifies QEMU, and the device stays off until QEMU stops that queue or sets it up again.
  for (unsigned i = 0; i < kQueueCount; ++i) {
    const Virtqueue& queue = queues_[i]->queue;
    if (!queue.broken()) continue;
    settings_[i].broken = true;
    device_failure_ = "the enclave's driver broke vsock queue " + std::to_string(i) + ": " + queue.why_broken();
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(settings_[i].error.get(), &one, sizeof one);
  }
  stop_device();
}

}  // namespace nitro::proc
