// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "enclave_proc/qemu/vsock/vhost_user.h"
#include "enclave_proc/qemu/vsock/virtio_vsock.h"
#include "src/base/bytes.h"
#include "src/base/mapping.h"
#include "src/runtime/event_loop.h"
#include "src/runtime/unix_socket.h"
#include "temp_folder.h"
#include "tests/unit/enclave_proc/qemu/vsock/pack.h"

namespace nitro::proc::testing {

/// Stands where QEMU is: speaks vhost-user to the back-end under test, well or badly.
class FrontEnd {
 public:
  static constexpr std::uint32_t kVersion = 1;
  static constexpr std::uint32_t kNeedReply = 8;

  struct Reply {
    std::uint32_t type = 0;
    std::uint32_t flags = 0;
    std::vector<std::byte> payload;
    template <class T>
    [[nodiscard]] T at(std::size_t offset) const {
      T value{};
      if (offset + sizeof value <= payload.size()) std::memcpy(&value, payload.data() + offset, sizeof value);
      return value;
    }
  };

  FrontEnd(EventLoop& loop, Fd socket) : loop_(loop), socket_(std::move(socket)) {}

  void send_raw(std::span<const std::byte> bytes, const std::vector<int>& fds = {}) {
    iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * 32)] = {};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    if (!fds.empty()) {
      message.msg_control = control;
      message.msg_controllen = CMSG_SPACE(sizeof(int) * fds.size());
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
      std::memcpy(CMSG_DATA(header), fds.data(), sizeof(int) * fds.size());
    }
    EXPECT_EQ(::sendmsg(socket_.get(), &message, MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }

  void send(std::uint32_t type, const std::vector<std::byte>& payload = {}, const std::vector<int>& fds = {},
            std::uint32_t flags = kVersion) {
    std::vector<std::byte> message = pack(type, flags, static_cast<std::uint32_t>(payload.size()));
    message.insert(message.end(), payload.begin(), payload.end());
    send_raw(message, fds);
    pump();
  }

  /// The next reply, if there is one.
  std::optional<Reply> reply() {
    pump();
    return reply_that_is_there();
  }
  /// The same without the loop, whose rounds the test counts.
  std::optional<Reply> reply_that_is_there() {
    std::array<std::uint32_t, 3> header{};
    if (::recv(socket_.get(), header.data(), sizeof header, MSG_DONTWAIT) != sizeof header) return std::nullopt;
    Reply reply{header[0], header[1], std::vector<std::byte>(header[2])};
    if (!reply.payload.empty()) {
      EXPECT_EQ(::recv(socket_.get(), reply.payload.data(), reply.payload.size(), MSG_DONTWAIT),
                static_cast<ssize_t>(reply.payload.size()));
    }
    return reply;
  }

  /// Sends a request that wants an acknowledgement and returns it: 0 for success; nothing when the connection ended.
  std::optional<std::uint64_t> acknowledged(std::uint32_t type, const std::vector<std::byte>& payload,
                                            const std::vector<int>& fds = {}) {
    send(type, payload, fds, kVersion | kNeedReply);
    const auto answer = reply();
    if (!answer) return std::nullopt;
    return answer->at<std::uint64_t>(0);
  }

  void pump() {
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(loop_.run_once(std::chrono::milliseconds(0)));
  }
  [[nodiscard]] bool closed_by_peer() {
    pump();
    char byte = 0;
    return ::recv(socket_.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
  }
  void hang_up() { socket_.reset(); }

 private:
  EventLoop& loop_;
  Fd socket_;
};

/// The driver's end of a split virtqueue, in the memory of a FakeGuest.
struct DriverQueue {
  std::span<std::byte> memory;
  std::uint64_t base = 0;  // guest address
  std::uint16_t size = 0;
  bool event_index = false;
  std::uint16_t next_available = 0;
  std::uint16_t seen_used = 0;
  std::uint16_t asked_at = 0;

  [[nodiscard]] std::uint64_t descriptors() const { return base; }
  [[nodiscard]] std::uint64_t available() const { return base + Virtqueue::descriptor_table_bytes(size); }
  [[nodiscard]] std::uint64_t used() const { return (available() + Virtqueue::available_ring_bytes(size) + 3) / 4 * 4; }

  void set_descriptor(std::uint16_t index, std::uint64_t address, std::uint32_t length, std::uint16_t flags,
                      std::uint16_t next = 0) const {
    const auto at = memory.subspan(descriptors() + 16U * index, 16);
    store_le(at, address);
    store_le(at.subspan(8), length);
    store_le(at.subspan(12), flags);
    store_le(at.subspan(14), next);
  }
  void offer(std::uint16_t head) {
    store_le(memory.subspan(available() + 4 + 2U * (next_available % size)), head);
    ++next_available;
    set_available_index(next_available);
  }
  /// Whether the device has asked to be told of what was offered since the last question (virtio 1.2, section 2.7.10).
  bool wants_kick() {
    const std::uint16_t before = std::exchange(asked_at, next_available);
    if (!event_index) return (load_le<std::uint16_t>(memory.subspan(used())) & 1) == 0;
    const auto event = load_le<std::uint16_t>(memory.subspan(used() + 4 + 8U * size));
    return static_cast<std::uint16_t>(next_available - event - 1) < static_cast<std::uint16_t>(next_available - before);
  }
  /// Asks to be interrupted for the next used chain. True when one is there already: no interrupt will come for it.
  bool ask_for_interrupt() {
    if (event_index) store_le(memory.subspan(available() + 4 + 2U * size), seen_used);
    return seen_used != used_index();
  }
  void set_available_index(std::uint16_t index) const { store_le(memory.subspan(available() + 2), index); }
  [[nodiscard]] std::uint16_t used_index() const { return load_le<std::uint16_t>(memory.subspan(used() + 2)); }
  /// {head, written} of the next used chain.
  std::optional<std::pair<std::uint32_t, std::uint32_t>> next_used() {
    if (seen_used == used_index()) return std::nullopt;
    const auto entry = memory.subspan(used() + 4 + 8U * (seen_used % size));
    ++seen_used;
    return std::pair(load_le<std::uint32_t>(entry), load_le<std::uint32_t>(entry.subspan(4)));
  }
};

struct Packet {
  VsockHeader header;
  std::string payload;
  [[nodiscard]] VsockOp op() const { return static_cast<VsockOp>(header.op); }
};

/// A guest with a vsock driver, and the QEMU around it. The driver does what Linux's does and no more: it kicks when
/// the device has asked for it, and looks at its receive queue when it was interrupted, until that is empty.
class FakeGuest {
 public:
  static constexpr std::uint64_t kCid = 42;
  static constexpr std::uint64_t kMemorySize = 8 << 20;
  static constexpr std::uint64_t kUserBase = 0x7f12'0000'0000;
  static constexpr std::uint16_t kQueueSize = 256;
  static constexpr std::uint64_t kReceiveBuffers = 0x100000;
  static constexpr std::uint32_t kReceiveBufferSize = 4096;
  static constexpr std::uint64_t kTransmitBuffers = 0x400000;
  static constexpr std::uint32_t kTransmitBufferSize = 0x10000 + 64;
  static constexpr std::uint32_t kWindow = 256 * 1024;

  static constexpr std::uint64_t kFeatureProtocol = std::uint64_t{1} << 30;

  FakeGuest(EventLoop& loop, VhostUserDevice& device, std::uint64_t cid = kCid) : loop_(loop), cid_(cid) {
    auto sockets = make_socket_pair();
    EXPECT_TRUE(sockets);
    auto backend =
        VhostUserBackend::start(loop, std::move(sockets->first), device, [this](std::optional<Error> reason) {
          ended = true;
          if (reason) end_reason = reason->message();
        });
    EXPECT_TRUE(backend);
    backend_ = std::move(*backend);
    front_end.emplace(loop, std::move(sockets->second));
    memory_fd_ = make_memory(kMemorySize);
    auto mapping = Mapping::map(memory_fd_.get(), kMemorySize, PROT_READ | PROT_WRITE, MAP_SHARED);
    EXPECT_TRUE(mapping);
    mapping_ = std::move(*mapping);
    for (unsigned i = 0; i < 2; ++i) {
      queues[i].memory = memory();
      queues[i].base = 0x10000 + 0x10000 * i;
      queues[i].size = kQueueSize;
      kick_[i] = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
      call_[i] = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
      error_[i] = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    }
  }

  static Fd make_memory(std::uint64_t size, unsigned seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) {
    Fd fd(::memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    EXPECT_EQ(::ftruncate(fd.get(), static_cast<off_t>(size)), 0);
    if (seals != 0) {
      EXPECT_EQ(::fcntl(fd.get(), F_ADD_SEALS, seals), 0);
    }
    return fd;
  }

  [[nodiscard]] std::span<std::byte> memory() const { return mapping_.bytes(); }
  [[nodiscard]] VhostUserBackend& backend() { return *backend_; }
  void destroy_backend() { backend_.reset(); }

  /// What QEMU 7.2 sends, in its order.
  void start(bool event_index = true, std::uint16_t receive_buffers = kQueueSize / 2) {
    negotiate(event_index);
    share_memory();
    for (std::uint32_t i = 0; i < 2; ++i) set_up_queue(i);
    for (std::uint32_t i = 0; i < 2; ++i) front_end->send(18, pack(i, std::uint32_t{1}));
    EXPECT_TRUE(backend_->device_running());
    for (std::uint16_t i = 0; i < receive_buffers; ++i) give_receive_buffer(i);
    notify(0);
  }
  void negotiate(bool event_index = true) {
    front_end->send(1);
    EXPECT_TRUE(front_end->reply());
    front_end->send(15);
    EXPECT_TRUE(front_end->reply());
    front_end->send(16, pack(std::uint64_t{0x209}));
    front_end->send(17);
    EXPECT_TRUE(front_end->reply());
    front_end->send(3);
    for (std::uint64_t i = 0; i < 2; ++i) {
      front_end->send(13, pack(i), {call_[i].get()});
      front_end->send(14, pack(i), {error_[i].get()});
    }
    front_end->send(2, pack(kFeatureVersion1 | kFeatureProtocol | (event_index ? kFeatureRingEventIndex : 0)));
    for (auto& queue : queues) queue.event_index = event_index;
  }
  void share_memory() {
    EXPECT_EQ(
        front_end->acknowledged(
            5, pack(std::uint32_t{1}, std::uint32_t{0}, std::uint64_t{0}, kMemorySize, kUserBase, std::uint64_t{0}),
            {memory_fd_.get()}),
        0U);
  }
  void set_up_queue(std::uint32_t i) {
    const DriverQueue& queue = queues[i];
    front_end->send(8, pack(i, std::uint32_t{queue.size}));
    front_end->send(10, pack(i, std::uint32_t{queue.next_available}));
    front_end->send(9, pack(i, std::uint32_t{0}, kUserBase + queue.descriptors(), kUserBase + queue.used(),
                            kUserBase + queue.available(), std::uint64_t{0}));
    front_end->send(12, pack(std::uint64_t{i}), {kick_[i].get()});
  }

  /// Tells the device of new chains, if it wants to know.
  void notify(unsigned queue) {
    if (queues[queue].wants_kick()) return kick(queue);
    pump();
  }
  void kick(unsigned queue) {
    kick_only(queue);
    pump();
  }
  /// Without the loop, whose rounds the test counts.
  void kick_only(unsigned queue) {
    const std::uint64_t one = 1;
    EXPECT_EQ(::write(kick_[queue].get(), &one, sizeof one), 8);
  }
  void pump() {
    for (int i = 0; i < 6; ++i) EXPECT_TRUE(loop_.run_once(std::chrono::milliseconds(0)));
  }
  /// How often the device has interrupted since the last question.
  std::uint64_t interrupts(unsigned queue) {
    collect_interrupts();
    return std::exchange(interrupts_[queue], 0);
  }
  bool error_signalled(unsigned queue) {
    std::uint64_t count = 0;
    return ::read(error_[queue].get(), &count, sizeof count) == 8;
  }

  void give_receive_buffer(std::uint16_t index) {
    queues[0].set_descriptor(index, kReceiveBuffers + std::uint64_t{index} * kReceiveBufferSize, kReceiveBufferSize, 2);
    queues[0].offer(index);
  }

  /// Puts a packet into the transmit ring, in two descriptors as Linux does, without a kick.
  void put(const VsockHeader& header, std::string_view payload = {}) {
    const std::uint16_t slot = static_cast<std::uint16_t>(sent_++ % 32);
    const std::uint64_t address = kTransmitBuffers + std::uint64_t{slot} * kTransmitBufferSize;
    const auto bytes = header.serialize();
    std::copy(bytes.begin(), bytes.end(), memory().begin() + static_cast<std::ptrdiff_t>(address));
    std::copy(payload.begin(), payload.end(), reinterpret_cast<char*>(memory().data() + address + VsockHeader::kSize));
    const auto head = static_cast<std::uint16_t>(slot * 2);
    const auto second = static_cast<std::uint16_t>(head + 1);
    const bool two = !payload.empty();
    queues[1].set_descriptor(head, address, VsockHeader::kSize, two ? 1 : 0, second);
    if (two)
      queues[1].set_descriptor(second, address + VsockHeader::kSize, static_cast<std::uint32_t>(payload.size()), 0);
    queues[1].offer(head);
  }
  void send(const VsockHeader& header, std::string_view payload = {}) {
    put(header, payload);
    notify(1);
  }
  VsockHeader header(VsockOp op, std::uint32_t guest_port, std::uint32_t host_port, std::uint64_t host_cid = 3) const {
    VsockHeader header;
    header.source_cid = cid_;
    header.destination_cid = host_cid;
    header.source_port = guest_port;
    header.destination_port = host_port;
    header.op = static_cast<std::uint16_t>(op);
    header.buffer_size = kWindow;
    header.forwarded_count = forwarded;
    return header;
  }
  void send(VsockOp op, std::uint32_t guest_port, std::uint32_t host_port, std::string_view payload = {},
            std::uint32_t flags = 0) {
    VsockHeader packet = header(op, guest_port, host_port);
    packet.length = static_cast<std::uint32_t>(payload.size());
    packet.flags = flags;
    send(packet, payload);
  }

  /// The next packet of the device. Its buffer goes back into the ring unless `keep`.
  std::optional<Packet> receive(bool keep = false) {
    pump();
    collect_interrupts();
    if (!looking_) return std::nullopt;
    auto used = queues[0].next_used();
    if (!used && queues[0].ask_for_interrupt()) used = queues[0].next_used();
    looking_ = used.has_value();
    if (!used) return std::nullopt;
    const auto [head, written] = *used;
    const auto buffer =
        memory().subspan(kReceiveBuffers + std::uint64_t{head} * kReceiveBufferSize, kReceiveBufferSize);
    Packet packet;
    packet.header = VsockHeader::parse(buffer.first<VsockHeader::kSize>());
    EXPECT_GE(written, VsockHeader::kSize);
    if (written > VsockHeader::kSize) {
      packet.payload = as_text(buffer.subspan(VsockHeader::kSize, written - VsockHeader::kSize));
    }
    EXPECT_EQ(packet.header.length, packet.payload.size());
    EXPECT_EQ(packet.header.destination_cid, cid_);
    if (!keep) {
      give_receive_buffer(static_cast<std::uint16_t>(head));
      notify(0);
    }
    return packet;
  }
  /// The next packet, which must be `op`.
  Packet expect(VsockOp op) {
    auto packet = receive();
    EXPECT_TRUE(packet) << "no packet; expected operation " << static_cast<int>(op);
    if (!packet) return {};
    EXPECT_EQ(packet->header.op, static_cast<std::uint16_t>(op));
    return *packet;
  }

  std::optional<FrontEnd> front_end;
  std::array<DriverQueue, 2> queues;
  bool ended = false;
  std::string end_reason;
  std::uint32_t forwarded = 0;  ///< what headers say of the guest's own consumption

 private:
  void collect_interrupts() {
    for (unsigned i = 0; i < 2; ++i) {
      std::uint64_t count = 0;
      if (::read(call_[i].get(), &count, sizeof count) != 8) continue;
      interrupts_[i] += count;
      if (i == 0) looking_ = true;
    }
  }

  EventLoop& loop_;
  std::uint64_t cid_;
  std::unique_ptr<VhostUserBackend> backend_;
  Fd memory_fd_;
  Mapping mapping_;
  std::array<Fd, 2> kick_;
  std::array<Fd, 2> call_;
  std::array<Fd, 2> error_;
  std::array<std::uint64_t, 2> interrupts_{};
  bool looking_ = false;  // at the receive queue: interrupted, and not yet through
  unsigned sent_ = 0;
};

/// A device with a guest, and a host on which programs may listen.
class VsockFixture : public ::testing::Test {
 protected:
  void SetUp() override {
    // A thousand connections are two thousand descriptors.
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    auto loop = EventLoop::create();
    ASSERT_OK(loop);
    loop_ = std::move(*loop);
    device_ = std::make_unique<VirtioVsock>(
        *loop_, FakeGuest::kCid, [this](std::uint32_t port) { return dial(port); },
        [this] { return VirtioVsock::Clock::now() + ahead_; });
    guest_ = std::make_unique<FakeGuest>(*loop_, *device_);
  }
  void TearDown() override {
    guest_.reset();
    device_.reset();
  }

  /// Port 1000 accepts; its end of the newest connection is host_. Port 1001 is busy `busy_` times first. Ports from
  /// kBusyPorts on always are. All others refuse.
  VirtioVsock::DialResult dial(std::uint32_t port) {
    using Status = VirtioVsock::DialResult::Status;
    ++dialled_;
    if (port >= kBusyPorts) {
      ++busy_dials_[port];
      return {Status::kBusy, Fd()};
    }
    if (port == 1001 && busy_ > 0) {
      --busy_;
      return {Status::kBusy, Fd()};
    }
    if (port != 1000 && port != 1001) return {};
    auto sockets = make_socket_pair();
    EXPECT_OK(sockets);
    EXPECT_OK(set_nonblocking(sockets->first.get(), true));
    hosts_.push_back(std::move(sockets->second));
    return {Status::kConnected, std::move(sockets->first)};
  }
  int host() const { return hosts_.back().get(); }

  /// Lets this much time pass for the device, which looks at its deadlines every 20 ms.
  void pass(std::chrono::milliseconds time) {
    ahead_ += time;
    // Timers come in the order in which they are due: the device's is before this one.
    bool looked = false;
    const auto timer = loop_->watch_timer(std::chrono::milliseconds(30), [&looked] { looked = true; });
    while (!looked) ASSERT_OK(loop_->run_once(std::chrono::milliseconds(-1)));
    guest_->pump();
  }

  /// Guest connects from `port` to host port 1000.
  void open_from_guest(std::uint32_t port = 50000) {
    guest_->send(VsockOp::kRequest, port, 1000);
    guest_->expect(VsockOp::kResponse);
  }
  /// What the host's program can read now.
  static std::string read_host(int fd) {
    std::string text(1 << 20, '\0');
    const ssize_t got = ::recv(fd, text.data(), text.size(), MSG_DONTWAIT);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }
  static bool at_end(int fd) {
    char byte = 0;
    const ssize_t got = ::recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  }
  void write_host(int fd, std::string_view text) {
    EXPECT_EQ(::send(fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
    guest_->pump();
  }

  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<VirtioVsock> device_;
  std::unique_ptr<FakeGuest> guest_;
  std::deque<Fd> hosts_;
  static constexpr std::uint32_t kBusyPorts = 2000;
  int busy_ = 0;
  int dialled_ = 0;
  std::map<std::uint32_t, int> busy_dials_;
  std::chrono::milliseconds ahead_{0};  // of the real clock, for the device
};

}  // namespace nitro::proc::testing
