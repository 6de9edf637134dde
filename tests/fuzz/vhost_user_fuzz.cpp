// SPDX-License-Identifier: Apache-2.0
// A hostile front-end and a hostile guest before the vsock device: the input is a script of requests, scribbles over
// rings and packets, kicks, and deeds of the host's programs. The device starts in working order, so that mutations get
// past the handshake. As long as the script leaves rings and settings alone, the guest reads what it gets: whole
// packets, and of each program its bytes in order. In the end nothing of any connection is left.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <tuple>
#include <vector>

#include "enclave_proc/qemu/vsock/vhost_user.h"
#include "enclave_proc/qemu/vsock/virtio_vsock.h"
#include "src/base/bytes.h"
#include "src/base/mapping.h"
#include "src/runtime/event_loop.h"
#include "src/runtime/unix_socket.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/script.h"
#include "tests/unit/enclave_proc/qemu/vsock/pack.h"

namespace {

using nitro::fuzz::require;
using nitro::fuzz::Script;

using namespace nitro;
using namespace nitro::proc;
using nitro::proc::testing::pack;

constexpr std::uint64_t kMemory = 1 << 18;
constexpr std::uint64_t kUserBase = 0x7f0000000000;
constexpr std::uint32_t kEntries = 16;
constexpr std::uint64_t kQueues[] = {0x1000, 0x2000};
constexpr std::uint64_t kPackets = 0x4000;  // one at a time, of 64 KiB at most
constexpr std::uint64_t kBuffers = 0x20000;
constexpr std::uint32_t kBufferBytes = 0x1000;
constexpr std::uint16_t kBufferCount = 8;
constexpr std::uint64_t kGuestCid = 42;

/// A program of the host: its end of a connection, and how many bytes it has sent.
struct HostProgram {
  Fd socket;
  std::uint32_t sent = 0;
};
/// What programs send: the byte tells its place in the stream.
constexpr std::uint32_t kPattern = 251;

class World {
 public:
  World()
      : loop_(std::move(*EventLoop::create())),
        device_(*loop_, kGuestCid, [this](std::uint32_t port) { return dial(port); }) {
    auto sockets = make_socket_pair();
    require(sockets.has_value());
    qemu_ = std::move(sockets->second);
    require(set_nonblocking(qemu_.get(), true).has_value());
    backend_ = std::move(*VhostUserBackend::start(*loop_, std::move(sockets->first), device_,
                                                  [this](std::optional<Error>) { ended_ = true; }));
    memory_fd_ = Fd(::memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    require(::ftruncate(memory_fd_.get(), kMemory) == 0);
    memory_ = std::move(*Mapping::map(memory_fd_.get(), kMemory, PROT_READ | PROT_WRITE, MAP_SHARED));
    for (Fd& event : events_) event = Fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));

    send(16, pack(std::uint64_t{0x209}));
    send(2, pack(std::uint64_t{1} << 32 | std::uint64_t{1} << 30 | std::uint64_t{1} << 29));
    send(5, pack(std::uint32_t{1}, std::uint32_t{0}, std::uint64_t{0}, kMemory, kUserBase, std::uint64_t{0}),
         memory_fd_.get());
    for (std::uint32_t i = 0; i < 2; ++i) {
      const std::uint64_t base = kUserBase + kQueues[i];
      send(8, pack(i, kEntries));
      send(9, pack(i, std::uint32_t{0}, base, base + 0x200, base + 0x100, std::uint64_t{0}));
      send(13, pack(std::uint64_t{i}), events_[2 + i].get());
      send(12, pack(std::uint64_t{i}), events_[i].get());
      send(18, pack(i, std::uint32_t{1}));
    }
    require(backend_->device_running());
  }

  void run(Script script) {
    for (int step = 0; step < 200 && !script.empty(); ++step) {
      switch (script.next() % 6) {
        case 0: {
          tampered_ = true;
          const std::uint8_t what = script.next();
          const std::uint32_t type = script.next() % 45;
          const auto payload = script.take(script.next() % 80);
          const int fd = (what & 1) != 0 ? events_[0].get() : (what & 2) != 0 ? memory_fd_.get() : -1;
          send(type, std::vector<std::byte>(payload.begin(), payload.end()), fd, (what & 4) != 0 ? 9 : 1);
          break;
        }
        case 1: {
          tampered_ = true;
          const std::size_t offset = 0x1000 + script.next16() % 0x2000;
          scribble(offset, script.take(script.next() % 32));
          break;
        }
        case 2:
          packet(script);
          break;
        case 3:
          give_buffers();
          kick(0);
          break;
        case 4:
          kick(script.next() % 2);
          break;
        default:
          host(script);
      }
      for (int i = 0; i < 3; ++i) require(loop_->run_once(std::chrono::milliseconds(0)).has_value());
      require(device_.buffered_bytes() <= device_.connection_count() * 256 * 1024);
      // What is left when the driver is gone is what it had sent, until the host has read it or is gone, too.
      if (!backend_->device_running()) require(device_.connection_count() == 0 || device_.buffered_bytes() > 0);
      if (!tampered_) read_packets();
      drain();
    }
    end();
  }

 private:
  void send(std::uint32_t type, const std::vector<std::byte>& payload, int fd = -1, std::uint32_t flags = 1) {
    if (ended_) return;
    std::vector<std::byte> bytes = pack(type, flags, static_cast<std::uint32_t>(payload.size()));
    bytes.insert(bytes.end(), payload.begin(), payload.end());
    iovec piece{bytes.data(), bytes.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    if (fd >= 0) {
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      cmsghdr* header = CMSG_FIRSTHDR(&message);
      header->cmsg_level = SOL_SOCKET;
      header->cmsg_type = SCM_RIGHTS;
      header->cmsg_len = CMSG_LEN(sizeof fd);
      std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
    }
    static_cast<void>(::sendmsg(qemu_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT));
    require(loop_->run_once(std::chrono::milliseconds(0)).has_value());
  }
  /// QEMU and the host's programs go.
  void end() {
    qemu_.reset();
    hosts_.clear();
    for (int i = 0; i < 4; ++i) require(loop_->run_once(std::chrono::milliseconds(0)).has_value());
    require(ended_ && !backend_->device_running());
    require(device_.connection_count() == 0 && device_.buffered_bytes() == 0);
  }
  void drain() {
    std::array<char, 4096> ignored;
    while (::recv(qemu_.get(), ignored.data(), ignored.size(), MSG_DONTWAIT) > 0) {
    }
  }
  void scribble(std::size_t offset, std::span<const std::byte> bytes) {
    std::copy(bytes.begin(), bytes.end(), memory_.bytes().begin() + static_cast<std::ptrdiff_t>(offset));
  }
  void offer(unsigned queue, std::uint16_t index, std::uint64_t address, std::uint32_t length, std::uint16_t flags) {
    const auto ring = memory_.bytes().subspan(kQueues[queue], 0x1000);
    const auto descriptor = ring.subspan(16U * index, 16);
    store_le(descriptor, address);
    store_le(descriptor.subspan(8), length);
    store_le(descriptor.subspan(12), flags);
    store_le<std::uint16_t>(descriptor.subspan(14), 0);
    const auto next = load_le<std::uint16_t>(ring.subspan(0x102));
    store_le(ring.subspan(0x104 + 2U * (next % kEntries)), index);
    store_le(ring.subspan(0x102), static_cast<std::uint16_t>(next + 1));
  }
  /// Those that the device does not have already, unless the rings are in disorder anyway.
  void give_buffers() {
    for (std::uint16_t i = 0; i < kBufferCount; ++i) {
      if (given_[i] && !tampered_) continue;
      given_[i] = true;
      offer(0, i, kBuffers + std::uint64_t{kBufferBytes} * i, kBufferBytes, 2);
    }
  }
  /// What the device has put into the guest's buffers since the last time.
  void read_packets() {
    const auto used = memory_.bytes().subspan(kQueues[0] + 0x200);
    for (const auto end = load_le<std::uint16_t>(used.subspan(2)); seen_used_ != end; ++seen_used_) {
      const auto entry = used.subspan(4 + 8U * (seen_used_ % kEntries));
      const auto index = load_le<std::uint32_t>(entry);
      const auto written = load_le<std::uint32_t>(entry.subspan(4));
      require(index < kBufferCount && given_[index]);
      given_[index] = false;
      require(written >= VsockHeader::kSize && written <= kBufferBytes);
      const auto buffer = memory_.bytes().subspan(kBuffers + std::uint64_t{kBufferBytes} * index, written);
      read_packet(VsockHeader::parse(buffer.first<VsockHeader::kSize>()), buffer.subspan(VsockHeader::kSize));
    }
  }
  void read_packet(const VsockHeader& header, std::span<const std::byte> payload) {
    require(header.destination_cid == kGuestCid && header.length == payload.size());
    require(payload.empty() || header.is(VsockOp::kData));
    // The first packet of a connection of the host, and the last one that opens a connection of the guest.
    std::uint32_t& received = received_[{header.source_cid, header.source_port, header.destination_port}];
    if (header.is(VsockOp::kRequest) || header.is(VsockOp::kResponse)) received = 0;
    for (const std::byte byte : payload) require(std::to_integer<std::uint32_t>(byte) == received++ % kPattern);
  }
  /// A packet that is right in what mutations would seldom get right.
  void packet(Script& script) {
    VsockHeader header;
    header.source_cid = kGuestCid;
    header.destination_cid = script.next() % 8 == 0 ? 7 : 3;
    header.source_port = script.next() % 4;
    header.destination_port = script.next() % 2;
    header.op = script.next() % 9;
    header.flags = script.next() % 4;
    header.buffer_size = std::uint32_t{script.next16()} << 4;
    header.forwarded_count = script.next16();
    header.length = std::uint32_t{script.next16()};
    scribble(kPackets, header.serialize());
    offer(1, script.next() % kEntries, kPackets, static_cast<std::uint32_t>(VsockHeader::kSize + header.length), 0);
    kick(1);
  }
  void kick(unsigned queue) {
    const std::uint64_t one = 1;
    static_cast<void>(!::write(events_[queue].get(), &one, sizeof one));
  }
  void host(Script& script) {
    const std::uint8_t what = script.next();
    if (what % 8 == 7) {
      auto sockets = make_socket_pair();
      if (!sockets || !set_nonblocking(sockets->first.get(), true)) return;
      device_.connect(std::move(sockets->first), script.next() % 4,
                      [](int, std::uint32_t port) { return port % 3 != 0; });
      hosts_.push_back({.socket = std::move(sockets->second)});
      return;
    }
    if (hosts_.empty()) return;
    HostProgram& program = hosts_[script.next() % hosts_.size()];
    const int fd = program.socket.get();
    std::array<char, 65536> bytes;
    switch (what % 8) {
      case 0: {
        const std::uint16_t count = script.next16();
        for (std::uint32_t i = 0; i < count; ++i) bytes[i] = static_cast<char>((program.sent + i) % kPattern);
        const ssize_t sent = ::send(fd, bytes.data(), count, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) program.sent += static_cast<std::uint32_t>(sent);
        break;
      }
      case 1:
        static_cast<void>(::recv(fd, bytes.data(), script.next16(), MSG_DONTWAIT));
        break;
      case 2:
        ::shutdown(fd, SHUT_WR);
        break;
      case 3:
        ::shutdown(fd, SHUT_RD);
        break;
      case 4:
        hosts_.pop_front();
        break;
      default:
        break;
    }
  }
  VirtioVsock::DialResult dial(std::uint32_t port) {
    using Status = VirtioVsock::DialResult::Status;
    if (port != 0) return {port == 1 ? Status::kBusy : Status::kRefused, Fd()};
    auto sockets = make_socket_pair();
    if (!sockets || !set_nonblocking(sockets->first.get(), true)) return {};
    hosts_.push_back({.socket = std::move(sockets->second)});
    return {Status::kConnected, std::move(sockets->first)};
  }

  std::unique_ptr<EventLoop> loop_;
  std::deque<HostProgram> hosts_;
  VirtioVsock device_;
  Fd qemu_;
  bool ended_ = false;
  std::unique_ptr<VhostUserBackend> backend_;
  Fd memory_fd_;
  Mapping memory_;
  std::array<Fd, 4> events_;
  bool tampered_ = false;  // rings or settings are not as the guest has made them
  std::array<bool, kBufferCount> given_{};
  std::uint16_t seen_used_ = 0;
  std::map<std::tuple<std::uint64_t, std::uint32_t, std::uint32_t>, std::uint32_t> received_;  // by connection
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
  World world;
  world.run(Script(std::as_bytes(std::span(input, size))));
  return 0;
}
