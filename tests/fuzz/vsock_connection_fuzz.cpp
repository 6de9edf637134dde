// SPDX-License-Identifier: Apache-2.0
// A connection of the vsock device between a guest and a host that do whatever the input says, in any order. What the
// device promises is counted beside it.
#include <algorithm>
#include <optional>

#include "enclave_proc/qemu/vsock/vsock_connection.h"
#include "tests/fuzz/fuzz.h"

namespace {

using nitro::fuzz::require;

using namespace nitro::proc;
using Action = VsockConnection::Action;
using State = VsockConnection::State;

constexpr std::uint32_t kBuffer = 64;
constexpr VsockConnection::Clock::time_point kNow{};

class World {
 public:
  explicit World(bool of_guest)
      : connection_(of_guest ? VsockConnection::asked_by_guest(packet(VsockOp::kRequest, 0, 0), kBuffer, kNow)
                             : VsockConnection::asked_by_host(
                                   {.guest_cid = 42, .host_cid = 3, .guest_port = 1, .host_port = 2}, kBuffer, kNow)) {}

  void guest(std::uint8_t op, std::uint8_t argument, std::uint8_t more) {
    if (more % 4 == 0) guest_buffer_ = argument;
    if (more % 4 == 1) guest_forwarded_ += argument;
    const bool open = connection_.state() == State::kOpen;
    const bool read = connection_.host_reads();
    const VsockHeader header = packet(static_cast<VsockOp>(op % 9), argument % 80, argument);
    const Action action = connection_.take(header);
    if (header.is(VsockOp::kData) && open && action != Action::kReset) {
      require(action == (read ? Action::kDeliver : Action::kNothing));
      received_ += header.length;
      if (read) held_ += header.length;
      require(held_ <= kBuffer);
    }
    // A guest that reads no more ends what a host that hung up could still be told; what was kept for that is dropped.
    if (!connection_.host_reads()) held_ = 0;
    act(action);
  }

  void host(std::uint8_t what, std::uint8_t count) {
    switch (what % 7) {
      case 0:
        if (connection_.state() == State::kDialing) connection_.host_connected();
        break;
      case 1:
        connection_.host_readable();
        break;
      case 2:
        connection_.host_drained();
        break;
      case 3: {
        if (connection_.state() != State::kOpen) break;
        const std::uint32_t bytes = std::min<std::uint32_t>(count, held_);
        held_ -= bytes;
        connection_.delivered(bytes);
        break;
      }
      case 4:
        if (connection_.state() == State::kOpen) connection_.host_finished();
        break;
      case 5:
        if (connection_.state() == State::kOpen) connection_.host_stopped_reading();
        break;
      default:
        if (connection_.state() != State::kClosed && connection_.state() != State::kDialing) {
          act(connection_.host_hung_up());
        }
    }
    if (!connection_.host_reads()) held_ = 0;
  }

  void device(std::uint8_t wanted, bool buffer_is_there) {
    const auto op = connection_.due();
    if (!op) return;
    require(!over_);
    const std::uint32_t length = *op == VsockOp::kData ? std::min<std::uint32_t>(wanted, connection_.credit()) : 0;
    if (*op == VsockOp::kData && length == 0) return;
    const VsockHeader header = connection_.packet(*op, length);
    if (!buffer_is_there) {
      require(connection_.due() == op);
      return;
    }
    connection_.sent(header, kNow);
    check(header);
  }

 private:
  VsockHeader packet(VsockOp op, std::uint32_t length, std::uint32_t flags) const {
    VsockHeader header;
    header.source_cid = 42;
    header.destination_cid = 3;
    header.source_port = 1;
    header.destination_port = 2;
    header.op = static_cast<std::uint16_t>(op);
    header.length = length;
    header.flags = flags;
    header.buffer_size = guest_buffer_;
    header.forwarded_count = guest_forwarded_;
    return header;
  }

  void act(Action action) {
    if (action == Action::kReset) require(connection_.reset_packet().is(VsockOp::kReset));
    if (action == Action::kReset || action == Action::kForget) over_ = true;
    require(over_ == (connection_.state() == State::kClosed));
  }

  void check(const VsockHeader& header) {
    require(header.buffer_size == kBuffer);
    // What has left our buffer: all that came, but for what is held.
    require(header.forwarded_count == received_ - held_);
    if (header.is(VsockOp::kData)) {
      sent_ += header.length;
      require(sent_ - guest_forwarded_ <= guest_buffer_);
      require(!finished_);
    }
    if (header.is(VsockOp::kShutdown)) {
      require((header.flags & flags_) == flags_ && header.flags != flags_);
      flags_ = header.flags;
      finished_ = (flags_ & kVsockShutdownSend) != 0;
      require((flags_ == kVsockShutdownBoth) == connection_.deadline().has_value());
    }
  }

  std::uint32_t guest_buffer_ = 100;
  std::uint32_t guest_forwarded_ = 0;
  VsockConnection connection_;
  bool over_ = false;
  std::uint32_t received_ = 0;
  std::uint32_t held_ = 0;
  std::uint32_t sent_ = 0;
  std::uint32_t flags_ = 0;
  bool finished_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* input, std::size_t size) {
  if (size == 0) return 0;
  World world(input[0] % 2 == 0);
  for (std::size_t i = 1; i + 3 < size; i += 4) {
    switch (input[i] % 3) {
      case 0:
        world.guest(input[i + 1], input[i + 2], input[i + 3]);
        break;
      case 1:
        world.host(input[i + 1], input[i + 2]);
        break;
      default:
        world.device(input[i + 1], input[i + 2] % 4 != 0);
    }
  }
  return 0;
}
