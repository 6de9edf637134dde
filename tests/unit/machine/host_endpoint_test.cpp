// SPDX-License-Identifier: Apache-2.0
// Programs of the hypervisor, as a guest reaches them through its vsock device.
#include "tests/machine/host_endpoint.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "src/runtime/unix_socket.h"
#include "tests/unit/enclave_proc/qemu/vsock/fake_guest.h"

namespace nitro::machine {
namespace {

using proc::VsockOp;
using proc::testing::FakeGuest;
using proc::testing::Packet;

constexpr std::uint64_t kParent = 3;
constexpr std::uint32_t kConsolePort = 10018;

class HostEndpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loop = EventLoop::create();
    ASSERT_OK(loop);
    loop_ = std::move(*loop);
    switch_.emplace(*loop_);
    endpoint_.emplace(
        *loop_, kParent, [this](std::uint64_t cid, std::uint32_t port) { return accept(cid, port); },
        [this] { switch_->wake(); });
    port_ = switch_->add(kParent, &*endpoint_);
    guest_.emplace(*loop_, *port_, kParent);
    guest_->start();
  }
  void TearDown() override {
    guest_.reset();
    port_.reset();
    endpoint_.reset();
  }

  std::optional<Fd> accept(std::uint64_t cid, std::uint32_t port) {
    if (cid != 0 || port != kConsolePort) return std::nullopt;
    auto sockets = make_socket_pair();
    EXPECT_OK(sockets);
    program_ = std::move(sockets->second);
    return std::move(sockets->first);
  }
  void write(std::string_view text) {
    EXPECT_EQ(::send(program_.get(), text.data(), text.size(), MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
    guest_->pump();
  }
  std::string read() const {
    std::string text(1 << 16, '\0');
    const ssize_t got = ::recv(program_.get(), text.data(), text.size(), MSG_DONTWAIT);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
  }
  bool ended() const {
    char byte = 0;
    return ::recv(program_.get(), &byte, 1, MSG_DONTWAIT) == 0;
  }
  void open() {
    guest_->send(guest_->header(VsockOp::kRequest, 1000, kConsolePort, 0));
    guest_->expect(VsockOp::kResponse);
  }

  std::unique_ptr<EventLoop> loop_;
  std::optional<VsockSwitch> switch_;
  std::optional<HostEndpoint> endpoint_;
  std::unique_ptr<VsockPort> port_;
  std::optional<FakeGuest> guest_;
  Fd program_;
};

TEST_F(HostEndpointTest, CarriesBytesBothWays) {
  open();
  write("from the console");
  const Packet packet = guest_->expect(VsockOp::kData);
  EXPECT_EQ(packet.payload, "from the console");
  EXPECT_EQ(packet.header.source_cid, 0U);
  EXPECT_EQ(packet.header.source_port, kConsolePort);
  auto data = guest_->header(VsockOp::kData, 1000, kConsolePort, 0);
  data.length = 4;
  guest_->send(data, "keys");
  EXPECT_EQ(read(), "keys");
}

TEST_F(HostEndpointTest, KeepsToTheCreditOfTheGuest) {
  auto request = guest_->header(VsockOp::kRequest, 1000, kConsolePort, 0);
  request.buffer_size = 10;
  guest_->send(request);
  guest_->expect(VsockOp::kResponse);
  write("0123456789abcdef");
  EXPECT_EQ(guest_->expect(VsockOp::kData).payload, "0123456789");
  guest_->expect(VsockOp::kCreditRequest);
  auto update = guest_->header(VsockOp::kCreditUpdate, 1000, kConsolePort, 0);
  update.buffer_size = 10;
  update.forwarded_count = 10;
  guest_->send(update);
  EXPECT_EQ(guest_->expect(VsockOp::kData).payload, "abcdef");
}

TEST_F(HostEndpointTest, PassesOnTheEndOfEitherSide) {
  open();
  write("last");
  program_.reset();
  EXPECT_EQ(guest_->expect(VsockOp::kData).payload, "last");
  EXPECT_EQ(guest_->expect(VsockOp::kShutdown).header.flags, proc::kVsockShutdownBoth);
  guest_->send(guest_->header(VsockOp::kReset, 1000, kConsolePort, 0));

  open();
  guest_->send(guest_->header(VsockOp::kReset, 1000, kConsolePort, 0));
  EXPECT_TRUE(ended());
  EXPECT_FALSE(guest_->receive());
}

TEST_F(HostEndpointTest, RefusesOtherAddresses) {
  guest_->send(guest_->header(VsockOp::kRequest, 1000, kConsolePort + 1, 0));
  guest_->expect(VsockOp::kReset);
  guest_->send(guest_->header(VsockOp::kRequest, 1000, kConsolePort, 2));
  guest_->expect(VsockOp::kReset);
  // Nor does anything belong to a connection that was never opened.
  guest_->send(guest_->header(VsockOp::kCreditRequest, 1000, kConsolePort, 0));
  guest_->expect(VsockOp::kReset);
}

TEST_F(HostEndpointTest, ConnectsToTheGuestUnderTheCidOfAnEnclave) {
  auto sockets = make_socket_pair();
  ASSERT_OK(sockets);
  program_ = std::move(sockets->second);
  write("\xb7");
  endpoint_->connect(std::move(sockets->first), 16, 9000);
  const Packet request = guest_->expect(VsockOp::kRequest);
  EXPECT_EQ(request.header.source_cid, 16U);
  EXPECT_EQ(request.header.destination_port, 9000U);
  guest_->send(guest_->header(VsockOp::kResponse, 9000, request.header.source_port, 16));
  EXPECT_EQ(guest_->expect(VsockOp::kData).payload, "\xb7");
  endpoint_->close_all_of(16);
  guest_->expect(VsockOp::kReset);
  EXPECT_TRUE(ended());
}

TEST_F(HostEndpointTest, ClosesASocketThatTheGuestRefuses) {
  auto sockets = make_socket_pair();
  ASSERT_OK(sockets);
  program_ = std::move(sockets->second);
  endpoint_->connect(std::move(sockets->first), 16, 9000);
  const Packet request = guest_->expect(VsockOp::kRequest);
  guest_->send(guest_->header(VsockOp::kReset, 9000, request.header.source_port, 16));
  EXPECT_TRUE(ended());
}

}  // namespace
}  // namespace nitro::machine
