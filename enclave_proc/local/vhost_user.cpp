// SPDX-License-Identifier: Apache-2.0
#include "vhost_user.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "nitro/bytes.h"

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
constexpr std::size_t kHeaderSize = 12;
constexpr std::uint32_t kVersionMask = 0x3;
constexpr std::uint32_t kVersion = 0x1;
constexpr std::uint32_t kFlagReply = 0x4;
constexpr std::uint32_t kFlagNeedReply = 0x8;

// The longest request that a back-end with our features can get is SET_MEM_TABLE with eight regions: 264 bytes;
// GET_CONFIG carries at most 12 + 256. Larger ones are from a front-end that has lost its way.
constexpr std::size_t kMaxPayload = 1024;
constexpr std::size_t kMaxFds = GuestMemory::kMaxRegions;
// One call of the loop handles at most so many requests, so that a chatty front-end starves nobody.
constexpr int kRequestsPerRound = 32;

// QEMU gives no queue more entries (VIRTQUEUE_MAX_SIZE, include/hw/virtio/virtio.h). The specification allows 32768,
// but the time that a hostile ring can cost grows with the square of its size.
constexpr std::uint32_t kMaxQueueSize = 1024;

// Feature bit 30 says that protocol features exist ("Communication").
constexpr std::uint64_t kFeatureProtocolFeatures = std::uint64_t{1} << 30;
// "Protocol features".
constexpr std::uint64_t kProtocolMultiQueue = std::uint64_t{1} << 0;
constexpr std::uint64_t kProtocolReplyAck = std::uint64_t{1} << 3;
constexpr std::uint64_t kProtocolConfig = std::uint64_t{1} << 9;
constexpr std::uint64_t kOfferedProtocolFeatures = kProtocolMultiQueue | kProtocolReplyAck | kProtocolConfig;

// SET_VRING_KICK, _CALL, _ERR: bits 0 to 7 are the queue, bit 8 says that no descriptor comes along.
constexpr std::uint64_t kQueueIndexMask = 0xff;
constexpr std::uint64_t kNoFd = 0x100;

// "Virtio device config space": offset, size, flags, then the bytes.
constexpr std::size_t kConfigHeaderSize = 12;
// "Memory regions description": count and padding, then regions of four 64-bit numbers.
constexpr std::size_t kMemoryHeaderSize = 8;
constexpr std::size_t kMemoryRegionSize = 32;

Failure broken(std::string what) {
  return fail(ErrorCode::kEnclaveBoot, "QEMU's vhost-user connection: " + what);
}

// "All numbers are in the machine native byte order."
template <class T>
T native(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}
template <class T>
void put_native(std::span<std::byte> bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

struct VringState {
  std::uint32_t index;
  std::uint32_t number;
};

Result<VringState> vring_state(std::span<const std::byte> payload) {
  if (payload.size() < 8) return broken("a vring state of " + std::to_string(payload.size()) + " bytes");
  return VringState{native<std::uint32_t>(payload, 0), native<std::uint32_t>(payload, 4)};
}

Result<std::uint64_t> number(std::span<const std::byte> payload) {
  if (payload.size() < 8) return broken("a number of " + std::to_string(payload.size()) + " bytes");
  return native<std::uint64_t>(payload, 0);
}

}  // namespace

Result<std::unique_ptr<VhostUserBackend>> VhostUserBackend::start(EventLoop& loop, Fd socket, VhostUserDevice& device,
                                                                  EndCallback on_end) {
  NITRO_CHECK(set_nonblocking(socket.get(), true));
  // The constructor is private, so make_unique cannot reach it.
  std::unique_ptr<VhostUserBackend> backend(new VhostUserBackend(loop, std::move(socket), device, std::move(on_end)));
  NITRO_TRY(backend->socket_watch_, loop.watch_fd(backend->socket_.get(), EPOLLIN,
                                                  [self = backend.get()](std::uint32_t) { self->on_readable(); }));
  return backend;
}

VhostUserBackend::VhostUserBackend(EventLoop& loop, Fd socket, VhostUserDevice& device, EndCallback on_end)
    : loop_(loop), device_(device), on_end_(std::move(on_end)), socket_(std::move(socket)) {}

VhostUserBackend::~VhostUserBackend() {
  stop_device();
}

void VhostUserBackend::end(std::optional<Error> reason) {
  stop_device();
  socket_watch_.cancel();
  socket_.reset();
  // The callback may destroy this object.
  const EndCallback callback = std::exchange(on_end_, nullptr);
  if (callback) callback(std::move(reason));
}

void VhostUserBackend::on_readable() {
  for (int count = 0; count < kRequestsPerRound; ++count) {
    auto complete = read_some();
    if (!complete) return end(std::move(complete).error());
    if (!socket_.valid()) return end(std::nullopt);
    if (!*complete) return;
    const std::vector<std::byte> message = std::exchange(input_, {});
    Request request{native<std::uint32_t>(message, 0), native<std::uint32_t>(message, 4),
                    std::span(message).subspan(kHeaderSize), std::exchange(input_fds_, {})};
    if (auto handled = handle(request); !handled) return end(std::move(handled).error());
  }
}

Result<bool> VhostUserBackend::read_some() {
  for (;;) {
    std::size_t wanted = kHeaderSize;
    if (input_.size() >= kHeaderSize) {
      const auto payload_size = native<std::uint32_t>(input_, 8);
      if (payload_size > kMaxPayload) {
        return broken("a request of " + std::to_string(payload_size) + " bytes, more than any that was agreed on");
      }
      wanted += payload_size;
      if (input_.size() == wanted) return true;
    }

    std::array<std::byte, kHeaderSize + kMaxPayload> buffer;
    iovec piece{buffer.data(), wanted - input_.size()};
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxFds)> control{};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
      if (errno != ECONNRESET) return fail_errno(ErrorCode::kEnclaveBoot, "reading QEMU's vhost-user connection");
    }
    if (got <= 0) {
      socket_watch_.cancel();
      socket_.reset();
      return false;
    }
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
      if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
      const std::size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof fd);
        input_fds_.emplace_back(fd);
      }
    }
    if ((message.msg_flags & MSG_CTRUNC) != 0 || input_fds_.size() > kMaxFds) {
      return broken("more than " + std::to_string(kMaxFds) + " descriptors with one request");
    }
    input_.insert(input_.end(), buffer.begin(), buffer.begin() + got);
  }
}

Result<void> VhostUserBackend::handle(Request& request) {
  if ((request.flags & kVersionMask) != kVersion) {
    return broken("protocol version " + std::to_string(request.flags & kVersionMask));
  }
  bool answered = false;
  auto result = dispatch(request, answered);
  const bool wants_answer = (request.flags & kFlagNeedReply) != 0 && (protocol_features_ & kProtocolReplyAck) != 0;
  if (!wants_answer || answered) return result;
  // "REPLY_ACK": zero for success. A failed request of a front-end that asked is its to judge; only without that is it
  // the end.
  return reply_u64(request.type, result ? 0 : 1);
}

Result<void> VhostUserBackend::dispatch(Request& request, bool& answered) {
  const auto with_number = [&](auto action) -> Result<void> {
    NITRO_TRY(const std::uint64_t value, number(request.payload));
    return action(value);
  };
  switch (request.type) {
    case kGetFeatures:
      answered = true;
      return reply_u64(request.type, device_.device_features() | kFeatureVersion1 | kFeatureRingEventIndex |
                                         kFeatureProtocolFeatures);
    case kSetFeatures:
      return with_number([this](std::uint64_t value) { return set_features(value); });
    case kGetProtocolFeatures:
      answered = true;
      return reply_u64(request.type, kOfferedProtocolFeatures);
    case kSetProtocolFeatures:
      return with_number([this](std::uint64_t value) -> Result<void> {
        if ((value & ~kOfferedProtocolFeatures) != 0) return broken("protocol features that were not offered");
        protocol_features_ = value;
        return {};
      });
    case kGetQueueNum:
      answered = true;
      return reply_u64(request.type, kQueueCount);
    case kSetOwner:
      return {};
    case kResetOwner:
      // Deprecated: "ignore this message, or use it to disable all rings".
      return {};
    case kSetMemTable:
      return set_memory_table(request);
    case kGetConfig:
      answered = true;
      return get_config(request);
    case kSetVringKick:
    case kSetVringCall:
    case kSetVringErr:
      return set_queue_fd(request);
    case kSetVringNum: {
      NITRO_TRY(const VringState state, vring_state(request.payload));
      NITRO_TRY(QueueSettings * queue, queue_named(state.index));
      if (running_) return broken("a queue is resized while it runs");
      if (state.number == 0 || state.number > kMaxQueueSize || !std::has_single_bit(state.number)) {
        return broken("a queue of " + std::to_string(state.number) + " entries");
      }
      queue->size = state.number;
      return {};
    }
    case kSetVringBase: {
      NITRO_TRY(const VringState state, vring_state(request.payload));
      NITRO_TRY(QueueSettings * queue, queue_named(state.index));
      if (running_) return broken("a queue is moved while it runs");
      if (state.number > 0xffff) return broken("a queue position past 65535");
      queue->base = static_cast<std::uint16_t>(state.number);
      return {};
    }
    case kSetVringAddr: {
      // "Vring address description": index, flags, then descriptor, used, available, log.
      if (request.payload.size() < 40) return broken("a vring address description that is too short");
      NITRO_TRY(QueueSettings * queue, queue_named(native<std::uint32_t>(request.payload, 0)));
      if (running_) return broken("a queue is moved while it runs");
      queue->descriptors = native<std::uint64_t>(request.payload, 8);
      queue->used = native<std::uint64_t>(request.payload, 16);
      queue->available = native<std::uint64_t>(request.payload, 24);
      queue->addresses_known = true;
      return refresh();
    }
    case kGetVringBase: {
      NITRO_TRY(const VringState state, vring_state(request.payload));
      NITRO_TRY(QueueSettings * queue, queue_named(state.index));
      // "stop ring upon receiving VHOST_USER_GET_VRING_BASE". Our device has no use for half its queues.
      stop_device();
      kick_watches_[state.index].cancel();
      queue->kick.reset();
      std::array<std::byte, 8> payload{};
      put_native<std::uint32_t>(payload, 0, state.index);
      put_native<std::uint32_t>(payload, 4, queue->base);
      answered = true;
      return reply(request.type, payload);
    }
    case kSetVringEnable: {
      NITRO_TRY(const VringState state, vring_state(request.payload));
      NITRO_TRY(QueueSettings * queue, queue_named(state.index));
      queue->enabled = state.number != 0;
      return refresh();
    }
    default:
      // Requests of features that were not offered, or of later versions. Without an answer asked for, ignoring is all
      // one can do.
      if ((request.flags & kFlagNeedReply) != 0 && (protocol_features_ & kProtocolReplyAck) != 0) {
        return broken("unknown request " + std::to_string(request.type));
      }
      return {};
  }
}

Result<void> VhostUserBackend::reply(std::uint32_t type, std::span<const std::byte> payload) {
  std::vector<std::byte> message(kHeaderSize + payload.size());
  put_native<std::uint32_t>(message, 0, type);
  put_native<std::uint32_t>(message, 4, kVersion | kFlagReply);
  put_native<std::uint32_t>(message, 8, static_cast<std::uint32_t>(payload.size()));
  std::copy(payload.begin(), payload.end(), message.begin() + kHeaderSize);
  const ssize_t sent = ::send(socket_.get(), message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) return fail_errno(ErrorCode::kEnclaveBoot, "answering QEMU's vhost-user request");
  // A front-end that reads its answers never lets a few hundred bytes pile up to a full socket.
  if (static_cast<std::size_t>(sent) != message.size()) return broken("the answers are not read");
  return {};
}

Result<void> VhostUserBackend::reply_u64(std::uint32_t type, std::uint64_t value) {
  std::array<std::byte, 8> payload{};
  put_native(payload, 0, value);
  return reply(type, payload);
}

Result<void> VhostUserBackend::set_features(std::uint64_t features) {
  const std::uint64_t offered =
      device_.device_features() | kFeatureVersion1 | kFeatureRingEventIndex | kFeatureProtocolFeatures;
  if ((features & ~offered) != 0) return broken("features that were not offered");
  // virtio 1.2, section 6: a device may insist on VIRTIO_F_VERSION_1. QEMU sends 0 and no more when it resets the
  // device.
  features_ = features;
  return refresh();
}

Result<void> VhostUserBackend::set_memory_table(Request& request) {
  const std::span<const std::byte> payload = request.payload;
  if (payload.size() < kMemoryHeaderSize) return broken("a memory table that is too short");
  const auto count = native<std::uint32_t>(payload, 0);
  if (count > GuestMemory::kMaxRegions || payload.size() < kMemoryHeaderSize + count * kMemoryRegionSize) {
    return broken("a memory table whose regions do not fit into it");
  }
  if (request.fds.size() != count) {
    return broken("a memory table of " + std::to_string(count) + " regions and " + std::to_string(request.fds.size()) +
                  " descriptors");
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
  // Nobody holds pointers into guest memory between two events, except the rings; those are made anew.
  const bool was_running = running_;
  for (unsigned i = 0; i < kQueueCount; ++i) {
    if (queues_[i]) settings_[i].base = queues_[i]->queue.next_available();
  }
  memory_ = std::move(memory);
  if (!was_running) return refresh();
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

Result<void> VhostUserBackend::get_config(const Request& request) {
  const std::span<const std::byte> payload = request.payload;
  const std::span<const std::byte> config = device_.config_space();
  if (payload.size() < kConfigHeaderSize) return broken("a configuration request that is too short");
  const auto offset = native<std::uint32_t>(payload, 0);
  const auto size = native<std::uint32_t>(payload, 4);
  if (offset > config.size() || size > config.size() - offset || payload.size() < kConfigHeaderSize + size) {
    // "back-end uses zero length of payload to indicate an error".
    return reply(request.type, {});
  }
  std::vector<std::byte> answer(payload.begin(), payload.begin() + kConfigHeaderSize);
  answer.insert(answer.end(), config.begin() + offset, config.begin() + offset + size);
  return reply(request.type, answer);
}

Result<VhostUserBackend::QueueSettings*> VhostUserBackend::queue_named(std::uint64_t index) {
  if (index >= kQueueCount) return broken("queue " + std::to_string(index) + ", of two");
  return &settings_[index];
}

Result<void> VhostUserBackend::set_queue_fd(Request& request) {
  NITRO_TRY(const std::uint64_t value, number(request.payload));
  const auto index = static_cast<unsigned>(value & kQueueIndexMask);
  NITRO_TRY(QueueSettings * queue, queue_named(index));
  Fd fd;
  if ((value & kNoFd) == 0) {
    if (request.fds.size() != 1) return broken("an event descriptor is missing");
    fd = std::move(request.fds.front());
    // A blocking descriptor would let the front-end stop us in the middle of a read or write.
    NITRO_CHECK(set_nonblocking(fd.get(), true));
  }
  switch (request.type) {
    case kSetVringErr:
      queue->error = std::move(fd);
      return {};
    case kSetVringCall:
      if (queues_[index]) {
        queues_[index]->call = std::move(fd);
        // Buffers may have been used while there was nobody to tell; an interrupt too many does no harm.
        const std::uint64_t one = 1;
        [[maybe_unused]] const ssize_t written = ::write(queues_[index]->call.get(), &one, sizeof one);
      } else {
        queue->call = std::move(fd);
      }
      return {};
    default:
      kick_watches_[index].cancel();
      queue->kick = std::move(fd);
      if (queue->kick.valid() && running_) {
        NITRO_TRY(kick_watches_[index],
                  loop_.watch_fd(queue->kick.get(), EPOLLIN, [this, index](std::uint32_t) { on_kick(index); }));
      }
      return refresh();
  }
}

Result<void> VhostUserBackend::refresh() {
  const bool ready = std::all_of(settings_.begin(), settings_.end(), [this](const QueueSettings& queue) {
    // "If VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts directly in the enabled state."
    const bool enabled = queue.enabled || (features_ & kFeatureProtocolFeatures) == 0;
    return enabled && queue.size != 0 && queue.addresses_known && queue.kick.valid();
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
  if (!queue) return broken("a queue that does not lie in guest memory");
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
    auto watch = loop_.watch_fd(settings_[i].kick.get(), EPOLLIN, [this, i](std::uint32_t) { on_kick(i); });
    if (!watch) {
      kick_watches_ = {};
      queues_ = {};
      return Failure(std::move(watch).error());
    }
    kick_watches_[i] = std::move(*watch);
    queues_[i]->call = std::move(settings_[i].call);
  }
  running_ = true;
  device_.started(*queues_[0], *queues_[1]);
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
    // Not an eventfd, and its other end is gone: it would be readable for ever.
    kick_watches_[index].cancel();
    return;
  }
  device_.kicked(index);
  if (!running_ || !queues_[index]->queue.broken()) return;
  // The driver wrote nonsense into its ring. The machine goes on without the device; QEMU is told through the error
  // descriptor.
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(settings_[index].error.get(), &one, sizeof one);
  stop_device();
}

}  // namespace nitro::proc
