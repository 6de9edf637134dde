// SPDX-License-Identifier: Apache-2.0
// A hostile front-end and a hostile guest before the vsock device: the input is a script of requests, scribbles over
// rings and packets, kicks, and deeds of the host's programs. The device starts in working order, so that mutations get
// past the handshake.
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
#include <vector>

#include "enclave_proc/qemu/vsock/vhost_user.h"
#include "enclave_proc/qemu/vsock/virtio_vsock.h"
#include "src/base/bytes.h"
#include "src/base/mapping.h"
#include "src/runtime/event_loop.h"
#include "src/runtime/unix_socket.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/enclave_proc/qemu/vsock/pack.h"

namespace {

using nitro::fuzz::require;

using namespace nitro;
using namespace nitro::proc;
using nitro::proc::testing::pack;

constexpr std::uint64_t kMemory = 1 << 18;
constexpr std::uint64_t kUserBase = 0x7f0000000000;
constexpr std::uint32_t kEntries = 16;
constexpr std::uint64_t kQueues[] = {0x1000, 0x2000};
constexpr std::uint64_t kPackets = 0x4000;
constexpr std::uint64_t kGuestCid = 42;

class Script {
 public:
  explicit Script(std::span<const std::byte> bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  std::uint8_t next() {
    if (bytes_.empty()) return 0;
    const auto value = std::to_integer<std::uint8_t>(bytes_[0]);
    bytes_ = bytes_.subspan(1);
    return value;
  }
  std::uint16_t next16() { return static_cast<std::uint16_t>(next() | next() << 8); }
  std::span<const std::byte> take(std::size_t count) {
    const auto taken = bytes_.first(std::min(count, bytes_.size()));
    bytes_ = bytes_.subspan(taken.size());
    return taken;
  }

 private:
  std::span<const std::byte> bytes_;
};

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
          const std::uint8_t what = script.next();
          const std::uint32_t type = script.next() % 45;
          const auto payload = script.take(script.next() % 80);
          const int fd = (what & 1) != 0 ? events_[0].get() : (what & 2) != 0 ? memory_fd_.get() : -1;
          send(type, std::vector<std::byte>(payload.begin(), payload.end()), fd, (what & 4) != 0 ? 9 : 1);
          break;
        }
        case 1: {
          const std::size_t offset = 0x1000 + script.next16() % 0x2000;
          scribble(offset, script.take(script.next() % 32));
          break;
        }
        case 2:
          packet(script);
          break;
        case 3:
          for (std::uint16_t i = 0; i < 8; ++i) offer(0, i, kPackets + 0x8000 + 0x1000U * i, 0x1000, 2);
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
      drain();
    }
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
      hosts_.push_back(std::move(sockets->second));
      return;
    }
    if (hosts_.empty()) return;
    const int fd = hosts_[script.next() % hosts_.size()].get();
    static std::array<char, 65536> bytes;
    switch (what % 8) {
      case 0:
        static_cast<void>(::send(fd, bytes.data(), script.next16(), MSG_DONTWAIT | MSG_NOSIGNAL));
        break;
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
    hosts_.push_back(std::move(sockets->second));
    return {Status::kConnected, std::move(sockets->first)};
  }

  std::unique_ptr<EventLoop> loop_;
  std::deque<Fd> hosts_;
  VirtioVsock device_;
  Fd qemu_;
  bool ended_ = false;
  std::unique_ptr<VhostUserBackend> backend_;
  Fd memory_fd_;
  Mapping memory_;
  std::array<Fd, 4> events_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
  World world;
  world.run(Script(std::as_bytes(std::span(input, size))));
  return 0;
}
