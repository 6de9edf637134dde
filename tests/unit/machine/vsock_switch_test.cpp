// SPDX-License-Identifier: Apache-2.0
// Two guests whose vsock devices are joined. The guests are stand-ins that do what Linux's driver does.
#include "tests/machine/vsock_switch.h"

#include <gtest/gtest.h>

#include "tests/unit/enclave_proc/qemu/vsock/fake_guest.h"

namespace nitro::machine {
namespace {

using proc::VsockHeader;
using proc::VsockOp;
using proc::testing::FakeGuest;
using proc::testing::Packet;

constexpr std::uint64_t kParent = 3;
constexpr std::uint64_t kEnclave = 16;

class VsockSwitchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loop = EventLoop::create();
    ASSERT_OK(loop);
    loop_ = std::move(*loop);
    switch_.emplace(*loop_);
    parent_port_ = switch_->add(kParent);
    enclave_port_ = switch_->add(kEnclave);
    parent_.emplace(*loop_, *parent_port_, kParent);
    enclave_.emplace(*loop_, *enclave_port_, kEnclave);
  }
  void TearDown() override {
    parent_.reset();
    enclave_.reset();
    parent_port_.reset();
    enclave_port_.reset();
  }

  void start(std::uint16_t enclave_buffers = FakeGuest::kQueueSize / 2) {
    parent_->start();
    enclave_->start(true, enclave_buffers);
  }
  void open() {
    parent_->send(parent_->header(VsockOp::kRequest, 1000, 2000, kEnclave));
    enclave_->expect(VsockOp::kRequest);
    enclave_->send(enclave_->header(VsockOp::kResponse, 2000, 1000, kParent));
    parent_->expect(VsockOp::kResponse);
  }

  std::unique_ptr<EventLoop> loop_;
  std::optional<VsockSwitch> switch_;
  std::unique_ptr<VsockPort> parent_port_;
  std::unique_ptr<VsockPort> enclave_port_;
  std::optional<FakeGuest> parent_;
  std::optional<FakeGuest> enclave_;
};

TEST_F(VsockSwitchTest, PassesPacketsUnchanged) {
  start();
  VsockHeader request = parent_->header(VsockOp::kRequest, 1000, 2000, kEnclave);
  request.buffer_size = 12345;
  request.forwarded_count = 67;
  parent_->send(request);
  EXPECT_EQ(enclave_->expect(VsockOp::kRequest).header.serialize(), request.serialize());

  VsockHeader data = enclave_->header(VsockOp::kData, 2000, 1000, kParent);
  data.length = 5;
  enclave_->send(data, "hello");
  const Packet got = parent_->expect(VsockOp::kData);
  EXPECT_EQ(got.header.serialize(), data.serialize());
  EXPECT_EQ(got.payload, "hello");
  EXPECT_FALSE(parent_->receive());
  EXPECT_FALSE(enclave_->receive());
}

TEST_F(VsockSwitchTest, DividesAPacketThatIsLargerThanTheReceiversBuffers) {
  start();
  std::string payload(60'000, '\0');
  for (std::size_t i = 0; i < payload.size(); ++i) payload[i] = static_cast<char>(i * 7 / 5);
  VsockHeader data = parent_->header(VsockOp::kData, 1000, 2000, kEnclave);
  data.length = static_cast<std::uint32_t>(payload.size());
  parent_->send(data, payload);
  std::string got;
  while (const auto packet = enclave_->receive()) {
    EXPECT_EQ(packet->op(), VsockOp::kData);
    EXPECT_LE(packet->payload.size(), FakeGuest::kReceiveBufferSize - VsockHeader::kSize);
    got += packet->payload;
  }
  EXPECT_EQ(got, payload);
}

TEST_F(VsockSwitchTest, RefusesWhatNobodyReceives) {
  start();
  parent_->send(parent_->header(VsockOp::kRequest, 1000, 2000, 99));
  const Packet refused = parent_->expect(VsockOp::kReset);
  EXPECT_EQ(refused.header.source_cid, 99U);
  EXPECT_EQ(refused.header.destination_port, 1000U);
  parent_->send(parent_->header(VsockOp::kRequest, 1000, 2000, kParent));
  parent_->expect(VsockOp::kReset);
  // No answer to a reset.
  parent_->send(parent_->header(VsockOp::kReset, 1000, 2000, 99));
  EXPECT_FALSE(parent_->receive());
  EXPECT_FALSE(enclave_->receive());
}

TEST_F(VsockSwitchTest, RefusesWhatIsNoStream) {
  start();
  VsockHeader request = parent_->header(VsockOp::kRequest, 1000, 2000, kEnclave);
  request.type = 2;
  parent_->send(request);
  parent_->expect(VsockOp::kReset);
  EXPECT_FALSE(enclave_->receive());
}

TEST_F(VsockSwitchTest, RefusesALengthBeyondThePacket) {
  start();
  VsockHeader data = parent_->header(VsockOp::kData, 1000, 2000, kEnclave);
  data.length = 4096;
  parent_->send(data, "short");
  parent_->expect(VsockOp::kReset);
  EXPECT_FALSE(enclave_->receive());
}

TEST_F(VsockSwitchTest, IgnoresTheCidOfAnotherGuest) {
  start();
  VsockHeader forged = parent_->header(VsockOp::kRequest, 1000, 2000, kEnclave);
  forged.source_cid = 17;
  parent_->send(forged);
  EXPECT_FALSE(enclave_->receive());
  EXPECT_FALSE(parent_->receive());
}

TEST_F(VsockSwitchTest, KeepsThePacketsOfASenderWhoseReceiverHasNoBuffers) {
  start(/*enclave_buffers=*/2);
  for (std::uint32_t port = 1000; port < 1005; ++port)
    parent_->send(parent_->header(VsockOp::kRequest, port, 2000, kEnclave));
  // Two have arrived. The others stay in the sender's ring: nothing is stored between the guests.
  EXPECT_EQ(parent_->queues[1].used_index(), 2);
  EXPECT_EQ(enclave_->expect(VsockOp::kRequest).header.source_port, 1000U);  // its buffer is given back
  EXPECT_EQ(parent_->queues[1].used_index(), 3);
  for (std::uint32_t port = 1001; port < 1005; ++port)
    EXPECT_EQ(enclave_->expect(VsockOp::kRequest).header.source_port, port);
  EXPECT_EQ(parent_->queues[1].used_index(), 5);
}

TEST_F(VsockSwitchTest, ResetsTheConnectionsOfAGuestThatEnds) {
  start();
  open();
  enclave_.reset();
  const Packet reset = parent_->expect(VsockOp::kReset);
  EXPECT_EQ(reset.header.source_cid, kEnclave);
  EXPECT_EQ(reset.header.source_port, 2000U);
  EXPECT_EQ(reset.header.destination_port, 1000U);
  EXPECT_FALSE(parent_->receive());
  parent_->send(parent_->header(VsockOp::kRequest, 1001, 2000, kEnclave));
  parent_->expect(VsockOp::kReset);
}

TEST_F(VsockSwitchTest, LeavesConnectionsAloneThatWereResetBefore) {
  start();
  open();
  enclave_->send(enclave_->header(VsockOp::kReset, 2000, 1000, kParent));
  parent_->expect(VsockOp::kReset);
  enclave_.reset();
  EXPECT_FALSE(parent_->receive());
}

TEST_F(VsockSwitchTest, DropsAPacketThatWaitsForAGuestThatEnds) {
  start(/*enclave_buffers=*/0);
  parent_->send(parent_->header(VsockOp::kRequest, 1000, 2000, kEnclave));
  EXPECT_EQ(parent_->queues[1].used_index(), 0);
  enclave_.reset();
  EXPECT_EQ(parent_->expect(VsockOp::kReset).header.destination_port, 1000U);
  EXPECT_EQ(parent_->queues[1].used_index(), 1);
}

}  // namespace
}  // namespace nitro::machine
