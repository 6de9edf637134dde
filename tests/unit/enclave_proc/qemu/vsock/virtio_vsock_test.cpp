// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/virtio_vsock.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "tests/unit/enclave_proc/qemu/vsock/fake_guest.h"

namespace nitro::proc {
namespace {

using namespace std::chrono_literals;
using testing::FakeGuest;
using testing::Packet;
using VirtioVsockTest = testing::VsockFixture;

TEST(VsockHeader, HasTheBytesOfTheSpecification) {
  VsockHeader header;
  header.source_cid = 0x0102030405060708;
  header.destination_cid = 3;
  header.source_port = 0x11121314;
  header.destination_port = 9000;
  header.length = 0x21222324;
  header.type = 1;
  header.op = 5;
  header.flags = 0x31323334;
  header.buffer_size = 0x41424344;
  header.forwarded_count = 0x51525354;
  const auto bytes = header.serialize();
  EXPECT_EQ(to_hex(bytes),
            "08070605040302010300000000000000141312112823000024232221010005003433323144434241"
            "54535251");
  EXPECT_EQ(VsockHeader::parse(bytes).serialize(), bytes);
}

TEST_F(VirtioVsockTest, TellsTheGuestItsCid) {
  EXPECT_EQ(to_hex(device_->config_space()), "2a00000000000000");
}

TEST_F(VirtioVsockTest, ConnectsTheGuestToTheHostAndCarriesBytesBothWays) {
  guest_->start();
  guest_->send(VsockOp::kRequest, 50000, 1000);
  const Packet response = guest_->expect(VsockOp::kResponse);
  EXPECT_EQ(response.header.source_cid, 3U);
  EXPECT_EQ(response.header.source_port, 1000U);
  EXPECT_EQ(response.header.destination_port, 50000U);
  EXPECT_EQ(response.header.type, kVsockTypeStream);
  EXPECT_GE(response.header.buffer_size, 16U * 1024);

  guest_->send(VsockOp::kData, 50000, 1000, "from the guest");
  EXPECT_EQ(read_host(host()), "from the guest");
  write_host(host(), "from the host");
  EXPECT_EQ(guest_->expect(VsockOp::kData).payload, "from the host");
  EXPECT_EQ(device_->connection_count(), 1U);
}

TEST_F(VirtioVsockTest, WorksWithoutEventIndexes) {
  guest_->start(false);
  open_from_guest();
  for (int i = 0; i < 600; ++i) {
    guest_->send(VsockOp::kData, 50000, 1000, "x");
    ASSERT_EQ(read_host(host()), "x");
    guest_->forwarded = static_cast<std::uint32_t>(i);
    write_host(host(), "y");
    ASSERT_EQ(guest_->expect(VsockOp::kData).payload, "y");
  }
}

TEST_F(VirtioVsockTest, InterruptsTheGuestForPacketsAndUsedBuffers) {
  guest_->start();
  guest_->interrupts(0);
  guest_->interrupts(1);
  open_from_guest();
  EXPECT_GE(guest_->interrupts(0), 1U);
  EXPECT_GE(guest_->interrupts(1), 1U);
}

TEST_F(VirtioVsockTest, IsTheParentUnderBothItsCids) {
  guest_->start();
  for (const std::uint64_t cid : {std::uint64_t{3}, std::uint64_t{2}}) {
    guest_->send(guest_->header(VsockOp::kRequest, 50000, 1000, cid));
    EXPECT_EQ(guest_->expect(VsockOp::kResponse).header.source_cid, cid);
  }
  EXPECT_EQ(device_->connection_count(), 2U);
}

TEST_F(VirtioVsockTest, RefusesEveryOtherCid) {
  guest_->start();
  for (const std::uint64_t cid :
       {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{4}, FakeGuest::kCid, ~std::uint64_t{0}}) {
    guest_->send(guest_->header(VsockOp::kRequest, 50000, 1000, cid));
    EXPECT_EQ(guest_->expect(VsockOp::kReset).header.source_cid, cid);
  }
  EXPECT_EQ(dialled_, 0);
}

TEST_F(VirtioVsockTest, DropsPacketsThatClaimToBeFromSomebodyElse) {
  guest_->start();
  VsockHeader header = guest_->header(VsockOp::kRequest, 50000, 1000);
  header.source_cid = 43;
  guest_->send(header);
  EXPECT_FALSE(guest_->receive());
  EXPECT_EQ(dialled_, 0);
}

TEST_F(VirtioVsockTest, RefusesPortsOnWhichNobodyListens) {
  guest_->start();
  guest_->send(VsockOp::kRequest, 50000, 1234);
  EXPECT_EQ(guest_->expect(VsockOp::kReset).header.source_port, 1234U);
  EXPECT_EQ(device_->connection_count(), 0U);
}

TEST_F(VirtioVsockTest, RefusesOtherSocketTypes) {
  guest_->start();
  VsockHeader header = guest_->header(VsockOp::kRequest, 50000, 1000);
  header.type = 2;
  guest_->send(header);
  EXPECT_EQ(guest_->expect(VsockOp::kReset).header.type, 2);
  EXPECT_EQ(dialled_, 0);
}

TEST_F(VirtioVsockTest, AnswersPacketsOfUnknownConnectionsWithAResetButNeverAReset) {
  guest_->start();
  for (const VsockOp op : {VsockOp::kResponse, VsockOp::kShutdown, VsockOp::kData, VsockOp::kCreditUpdate,
                           VsockOp::kCreditRequest, static_cast<VsockOp>(0), static_cast<VsockOp>(99)}) {
    guest_->send(op, 1, 2);
    guest_->expect(VsockOp::kReset);
  }
  guest_->send(VsockOp::kReset, 1, 2);
  EXPECT_FALSE(guest_->receive());
}

TEST_F(VirtioVsockTest, ResetsAConnectionOnOperationsThatMakeNoSense) {
  guest_->start();
  for (const VsockOp op : {VsockOp::kRequest, VsockOp::kResponse, static_cast<VsockOp>(0), static_cast<VsockOp>(99)}) {
    open_from_guest();
    guest_->send(op, 50000, 1000);
    guest_->expect(VsockOp::kReset);
    EXPECT_EQ(device_->connection_count(), 0U);
    EXPECT_TRUE(at_end(host()));
  }
}

TEST_F(VirtioVsockTest, ResetsAConnectionWhosePacketIsShorterThanItSays) {
  guest_->start();
  open_from_guest();
  VsockHeader header = guest_->header(VsockOp::kData, 50000, 1000);
  header.length = 100;
  guest_->send(header, "not a hundred");
  guest_->expect(VsockOp::kReset);
  EXPECT_EQ(device_->connection_count(), 0U);
}

TEST_F(VirtioVsockTest, TakesNoMoreOfAPacketThanItSays) {
  guest_->start();
  open_from_guest();
  VsockHeader header = guest_->header(VsockOp::kData, 50000, 1000);
  header.length = 3;
  guest_->send(header, "abcdef");
  EXPECT_EQ(read_host(host()), "abc");
}

TEST_F(VirtioVsockTest, ReadsAHeaderThatIsSpreadOverManyDescriptors) {
  guest_->start();
  VsockHeader header = guest_->header(VsockOp::kRequest, 50000, 1000);
  const auto bytes = header.serialize();
  std::copy(bytes.begin(), bytes.end(), guest_->memory().begin() + FakeGuest::kTransmitBuffers);
  for (std::uint16_t i = 0; i < 44; ++i) {
    guest_->queues[1].set_descriptor(i, FakeGuest::kTransmitBuffers + i, 1, i < 43 ? 1 : 0,
                                     static_cast<std::uint16_t>(i + 1));
  }
  guest_->queues[1].offer(0);
  guest_->kick(1);
  guest_->expect(VsockOp::kResponse);
}

TEST_F(VirtioVsockTest, GivesBackPacketsThatHaveNoWholeHeader) {
  guest_->start();
  guest_->queues[1].set_descriptor(0, FakeGuest::kTransmitBuffers, 43, 0);
  guest_->queues[1].offer(0);
  guest_->kick(1);
  EXPECT_EQ(guest_->queues[1].used_index(), 1);
  EXPECT_FALSE(guest_->receive());
}

TEST_F(VirtioVsockTest, TellsTheGuestThatTheHostWritesNoMoreAndGoesOnReading) {
  guest_->start();
  open_from_guest();
  write_host(host(), "last words");
  ::shutdown(host(), SHUT_WR);
  guest_->pump();
  EXPECT_EQ(guest_->expect(VsockOp::kData).payload, "last words");
  EXPECT_EQ(guest_->expect(VsockOp::kShutdown).header.flags, kVsockShutdownSend);
  guest_->send(VsockOp::kData, 50000, 1000, "I heard");
  EXPECT_EQ(read_host(host()), "I heard");
  EXPECT_EQ(device_->connection_count(), 1U);
}

TEST_F(VirtioVsockTest, TellsTheHostThatTheGuestWritesNoMoreAndGoesOnSending) {
  guest_->start();
  open_from_guest();
  guest_->send(VsockOp::kData, 50000, 1000, "question");
  guest_->send(VsockOp::kShutdown, 50000, 1000, {}, kVsockShutdownSend);
  EXPECT_EQ(read_host(host()), "question");
  EXPECT_TRUE(at_end(host()));
  write_host(host(), "answer");
  EXPECT_EQ(guest_->expect(VsockOp::kData).payload, "answer");
  // Sending after that breaks the rules.
  guest_->send(VsockOp::kData, 50000, 1000, "more");
  guest_->expect(VsockOp::kReset);
}

TEST_F(VirtioVsockTest, MakesTheHostsWritesFailWhenTheGuestReadsNoMore) {
  guest_->start();
  open_from_guest();
  guest_->send(VsockOp::kShutdown, 50000, 1000, {}, kVsockShutdownReceive);
  EXPECT_EQ(::send(host(), "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL), -1);
  EXPECT_EQ(errno, EPIPE);
  guest_->send(VsockOp::kData, 50000, 1000, "still here");
  EXPECT_EQ(read_host(host()), "still here");
}

TEST_F(VirtioVsockTest, AnswersTheGuestsCloseWithAReset) {
  guest_->start();
  open_from_guest();
  guest_->send(VsockOp::kData, 50000, 1000, "bye");
  guest_->send(VsockOp::kShutdown, 50000, 1000, {}, kVsockShutdownBoth);
  guest_->expect(VsockOp::kReset);
  EXPECT_EQ(read_host(host()), "bye");
  EXPECT_TRUE(at_end(host()));
  EXPECT_EQ(device_->connection_count(), 0U);
}

TEST_F(VirtioVsockTest, TellsTheGuestThatTheHostHasClosed) {
  guest_->start();
  open_from_guest();
  hosts_.clear();
  EXPECT_EQ(guest_->expect(VsockOp::kShutdown).header.flags, kVsockShutdownBoth);
  guest_->send(VsockOp::kReset, 50000, 1000);
  EXPECT_EQ(device_->connection_count(), 0U);
}

TEST_F(VirtioVsockTest, TellsTheGuestThatTheHostHasClosedAfterAHalfClose) {
  guest_->start();
  open_from_guest();
  ::shutdown(host(), SHUT_WR);
  EXPECT_EQ(guest_->expect(VsockOp::kShutdown).header.flags, kVsockShutdownSend);
  hosts_.clear();
  EXPECT_EQ(guest_->expect(VsockOp::kShutdown).header.flags, kVsockShutdownBoth);
}

TEST_F(VirtioVsockTest, TakesNoticeOfTheHostsCloseWhenTheGuestReadsNoMore) {
  guest_->start();
  open_from_guest();
  guest_->send(VsockOp::kShutdown, 50000, 1000, {}, kVsockShutdownReceive);
  hosts_.clear();
  EXPECT_EQ(guest_->expect(VsockOp::kShutdown).header.flags, kVsockShutdownBoth);
}

TEST_F(VirtioVsockTest, DeliversAllThatTheHostWroteBeforeItClosed) {
  guest_->start();
  open_from_guest();
  const std::string text(100'000, 'z');
  write_host(host(), text);
  hosts_.clear();
  std::string got;
  for (;;) {
    const auto packet = guest_->receive();
    ASSERT_TRUE(packet);
    if (packet->op() != VsockOp::kData) {
      EXPECT_EQ(packet->op(), VsockOp::kShutdown);
      break;
    }
    got += packet->payload;
  }
  EXPECT_EQ(got, text);
}

TEST_F(VirtioVsockTest, SendsNoMoreThanTheGuestHasRoomFor) {
  guest_->start();
  VsockHeader request = guest_->header(VsockOp::kRequest, 50000, 1000);
  request.buffer_size = 10;
  guest_->send(request);
  guest_->expect(VsockOp::kResponse);
  write_host(host(), "0123456789abcdef");
  EXPECT_EQ(guest_->expect(VsockOp::kData).payload, "0123456789");
  // It asks once for news, and waits.
  guest_->expect(VsockOp::kCreditRequest);
  EXPECT_FALSE(guest_->receive());
  VsockHeader update = guest_->header(VsockOp::kCreditUpdate, 50000, 1000);
  update.buffer_size = 10;
  update.forwarded_count = 4;
  guest_->send(update);
  EXPECT_EQ(guest_->expect(VsockOp::kData).payload, "abcd");
  guest_->expect(VsockOp::kCreditRequest);
  update.forwarded_count = 14;
  guest_->send(update);
  EXPECT_EQ(guest_->expect(VsockOp::kData).payload, "ef");
}

TEST_F(VirtioVsockTest, TreatsImpossibleCreditAsNone) {
  guest_->start();
  open_from_guest();
  VsockHeader update = guest_->header(VsockOp::kCreditUpdate, 50000, 1000);
  update.forwarded_count = 1000;  // nothing was sent yet
  guest_->send(update);
  write_host(host(), "x");
  guest_->expect(VsockOp::kCreditRequest);
  EXPECT_FALSE(guest_->receive());
}

TEST_F(VirtioVsockTest, KeepsWhatASlowHostDoesNotReadAndNoMore) {
  guest_->start();
  open_from_guest();
  const std::string block(65536, 'b');
  std::size_t sent = 0;
  // The socket's own buffer, then ours of 256 KiB; then the guest has broken the rules.
  std::optional<Packet> reset;
  while (!reset && sent < (std::size_t{64} << 20)) {
    guest_->send(VsockOp::kData, 50000, 1000, block);
    sent += block.size();
    EXPECT_LE(device_->buffered_bytes(), 256U * 1024);
    while (auto packet = guest_->receive()) {
      if (packet->op() == VsockOp::kReset) reset = packet;
    }
  }
  ASSERT_TRUE(reset);
  EXPECT_LT(sent, std::size_t{4} << 20);
  // What was taken is still delivered, then comes the end.
  std::size_t read = 0;
  for (std::string piece = read_host(host()); !piece.empty(); piece = read_host(host())) {
    read += piece.size();
    guest_->pump();
  }
  EXPECT_EQ(read, sent - block.size());
  EXPECT_TRUE(at_end(host()));
  EXPECT_EQ(device_->connection_count(), 0U);
  EXPECT_EQ(device_->buffered_bytes(), 0U);
}

TEST_F(VirtioVsockTest, GivesCreditWhenTheHostReads) {
  guest_->start();
  open_from_guest();
  const std::string block(65536, 'b');
  std::uint32_t sent = 0;
  std::uint32_t forwarded = 0;
  std::size_t read = 0;
  const std::size_t total = std::size_t{8} << 20;
  while (read < total) {
    while (sent < total && sent - forwarded + block.size() <= 256 * 1024) {
      guest_->send(VsockOp::kData, 50000, 1000, block);
      sent += static_cast<std::uint32_t>(block.size());
    }
    read += read_host(host()).size();
    guest_->pump();
    while (auto packet = guest_->receive()) {
      ASSERT_EQ(packet->op(), VsockOp::kCreditUpdate);
      forwarded = packet->header.forwarded_count;
    }
  }
  EXPECT_EQ(read, total);
}

TEST_F(VirtioVsockTest, AnswersAskingForCredit) {
  guest_->start();
  open_from_guest();
  guest_->send(VsockOp::kData, 50000, 1000, "12345");
  guest_->send(VsockOp::kCreditRequest, 50000, 1000);
  const Packet update = guest_->expect(VsockOp::kCreditUpdate);
  EXPECT_EQ(update.header.forwarded_count, 5U);
  EXPECT_EQ(update.header.buffer_size, 256U * 1024);
}

TEST_F(VirtioVsockTest, WaitsForReceiveBuffersAndForgetsNothing) {
  for (const bool event_index : {true, false}) {
    guest_ = std::make_unique<FakeGuest>(*loop_, *device_);
    constexpr std::uint16_t kBuffers = 20;
    guest_->start(event_index, kBuffers);
    open_from_guest();
    std::string text;
    while (text.size() < std::size_t{200} * 1024) text += std::to_string(text.size()) + " ";
    write_host(host(), text);
    std::string got;
    int packets = 0;
    for (int round = 0; round < 3; ++round) {
      // The driver keeps what it gets: 51 packets find 20 buffers.
      while (auto packet = guest_->receive(true)) {
        got += packet->payload;
        ++packets;
      }
      EXPECT_EQ(packets, std::min(51, kBuffers * (round + 1)));
      for (std::uint16_t i = 0; i < kBuffers; ++i) guest_->give_receive_buffer(i);
      guest_->notify(0);
    }
    EXPECT_EQ(got, text);
  }
}

TEST_F(VirtioVsockTest, StopsTakingPacketsWhenRefusalsPileUpAndGoesOnLater) {
  guest_->start(true, 0);
  // The driver sends until its ring is full, and gives no buffer for the answers.
  std::size_t sent = 0;
  const auto outstanding = [&] { return sent - guest_->queues[1].used_index(); };
  while (outstanding() < FakeGuest::kQueueSize && sent < 5000) {
    guest_->send(VsockOp::kData, 7, 7);
    ++sent;
  }
  EXPECT_EQ(guest_->queues[1].used_index(), VirtioVsock::kMaxReplies);
  EXPECT_TRUE(guest_->backend().device_running()) << "a full ring is no broken one";
  std::size_t refused = 0;
  for (int round = 0; round < 20 && refused < sent; ++round) {
    for (std::uint16_t i = 0; i < 128; ++i) guest_->give_receive_buffer(i);
    guest_->notify(0);
    while (auto packet = guest_->receive(true)) ++refused;
    // As many as have left make room for others, without another word of the driver.
    EXPECT_EQ(guest_->queues[1].used_index(), std::min(sent, VirtioVsock::kMaxReplies + refused));
  }
  EXPECT_EQ(refused, sent);
  EXPECT_EQ(outstanding(), 0U);
}

TEST_F(VirtioVsockTest, GivesBackReceiveBuffersThatAreTooSmall) {
  guest_->negotiate();
  guest_->share_memory();
  guest_->set_up_queue(0);
  guest_->set_up_queue(1);
  for (std::uint32_t i = 0; i < 2; ++i) guest_->front_end->send(18, testing::pack(i, std::uint32_t{1}));
  // Ten of 10 bytes, one readable instead of writable, then a good one.
  for (std::uint16_t i = 0; i < 10; ++i) {
    guest_->queues[0].set_descriptor(i, FakeGuest::kReceiveBuffers, 10, 2);
    guest_->queues[0].offer(i);
  }
  guest_->queues[0].set_descriptor(10, FakeGuest::kReceiveBuffers, 4096, 0);
  guest_->queues[0].offer(10);
  guest_->give_receive_buffer(11);
  guest_->notify(0);
  guest_->send(VsockOp::kRequest, 50000, 1000);
  for (std::uint32_t i = 0; i < 11; ++i) {
    const auto used = guest_->queues[0].next_used();
    ASSERT_TRUE(used);
    EXPECT_EQ(*used, std::pair(i, std::uint32_t{0}));
  }
  guest_->expect(VsockOp::kResponse);
}

TEST_F(VirtioVsockTest, SpreadsDataOverBuffersOfManyPieces) {
  guest_->negotiate();
  guest_->share_memory();
  guest_->set_up_queue(0);
  guest_->set_up_queue(1);
  for (std::uint32_t i = 0; i < 2; ++i) guest_->front_end->send(18, testing::pack(i, std::uint32_t{1}));
  guest_->give_receive_buffer(200);
  guest_->kick(0);
  open_from_guest();
  // One buffer of twenty pieces of 7 bytes: 140 bytes, 96 of them for data.
  for (std::uint16_t i = 0; i < 20; ++i) {
    guest_->queues[0].set_descriptor(i, FakeGuest::kReceiveBuffers + 7U * i, 7, i < 19 ? 3 : 2,
                                     static_cast<std::uint16_t>(i + 1));
  }
  guest_->queues[0].offer(0);
  guest_->kick(0);
  const std::string text(200, 't');
  write_host(host(), text);
  // The buffer that came back with the response takes the rest.
  std::string got;
  while (got.size() < text.size()) {
    const auto packet = guest_->receive();
    ASSERT_TRUE(packet);
    got += packet->payload;
  }
  EXPECT_EQ(got, text);
}

TEST_F(VirtioVsockTest, ConnectsAHostProgramToTheGuest) {
  guest_->start();
  auto sockets = make_socket_pair();
  ASSERT_OK(sockets);
  std::uint32_t host_port = 0;
  device_->connect(std::move(sockets->first), 5005, [&](int, std::uint32_t port) {
    host_port = port;
    return true;
  });
  const Packet request = guest_->expect(VsockOp::kRequest);
  EXPECT_EQ(request.header.source_cid, 3U);
  EXPECT_EQ(request.header.destination_port, 5005U);
  EXPECT_EQ(host_port, 0U);
  guest_->send(VsockOp::kResponse, 5005, request.header.source_port);
  EXPECT_EQ(host_port, request.header.source_port);
  write_host(sockets->second.get(), "hi");
  EXPECT_EQ(guest_->expect(VsockOp::kData).payload, "hi");
}

TEST_F(VirtioVsockTest, ClosesAHostProgramThatTheGuestRefuses) {
  guest_->start();
  auto sockets = make_socket_pair();
  ASSERT_OK(sockets);
  device_->connect(std::move(sockets->first), 5005, [](int, std::uint32_t) { return true; });
  const Packet request = guest_->expect(VsockOp::kRequest);
  guest_->send(VsockOp::kReset, 5005, request.header.source_port);
  EXPECT_TRUE(at_end(sockets->second.get()));
  EXPECT_EQ(device_->connection_count(), 0U);
}

TEST_F(VirtioVsockTest, ClosesAHostProgramWhenTheGuestHasNoDriver) {
  auto sockets = make_socket_pair();
  ASSERT_OK(sockets);
  device_->connect(std::move(sockets->first), 5005, [](int, std::uint32_t) { return true; });
  EXPECT_TRUE(at_end(sockets->second.get()));
}

TEST_F(VirtioVsockTest, WithdrawsTheRequestOfAHostProgramThatHasGone) {
  guest_->start();
  auto sockets = make_socket_pair();
  ASSERT_OK(sockets);
  device_->connect(std::move(sockets->first), 5005, [](int, std::uint32_t) { return true; });
  guest_->expect(VsockOp::kRequest);
  sockets->second.reset();
  guest_->expect(VsockOp::kReset);
  EXPECT_EQ(device_->connection_count(), 0U);
}

TEST_F(VirtioVsockTest, TriesAHostSocketAgainWhoseBacklogIsFull) {
  busy_ = 3;
  guest_->start();
  guest_->send(VsockOp::kRequest, 50000, 1001);
  EXPECT_FALSE(guest_->receive());
  while (dialled_ < 4) ASSERT_OK(loop_->run_once(std::chrono::milliseconds(-1)));
  guest_->expect(VsockOp::kResponse);
  EXPECT_EQ(dialled_, 4);
}

TEST_F(VirtioVsockTest, GivesUpOnHostSocketsWhoseBacklogsStayFullForTwoSeconds) {
  busy_ = 1'000'000;
  guest_->start();
  for (std::uint32_t i = 0; i < 200; ++i) guest_->send(VsockOp::kRequest, 50000 + i, 1001);
  EXPECT_EQ(device_->connection_count(), 200U);
  ahead_ = 1500ms;
  pass(0ms);
  EXPECT_FALSE(guest_->receive());
  EXPECT_EQ(device_->connection_count(), 200U);
  pass(500ms);
  for (int i = 0; i < 200; ++i) guest_->expect(VsockOp::kReset);
  EXPECT_FALSE(guest_->receive());
  EXPECT_EQ(device_->connection_count(), 0U);
}

TEST_F(VirtioVsockTest, DialsAllThatAreBusyInTurn) {
  busy_ = 1'000'000;
  guest_->start();
  for (std::uint32_t i = 0; i < 200; ++i) guest_->send(VsockOp::kRequest, 50000 + i, 1001);
  // From now on there is room for each; 64 are tried in one go.
  busy_ = 0;
  const int before = dialled_;
  std::vector<int> steps;
  for (int done = before; done < before + 200; done = dialled_) {
    ASSERT_OK(loop_->run_once(std::chrono::milliseconds(-1)));
    if (dialled_ > done) steps.push_back(dialled_ - done);
  }
  EXPECT_EQ(steps, (std::vector<int>{64, 64, 64, 8}));
  for (int i = 0; i < 200; ++i) guest_->expect(VsockOp::kResponse);
}

TEST_F(VirtioVsockTest, DialsAllThatStayBusyAgainAndAgain) {
  guest_->start();
  constexpr std::uint32_t kCount = 200;
  for (std::uint32_t i = 0; i < kCount; ++i) guest_->send(VsockOp::kRequest, 50000, kBusyPorts + i);
  busy_dials_.clear();
  // In four rounds each has had its turn.
  for (const int all = dialled_ + 4 * 64; dialled_ < all;) ASSERT_OK(loop_->run_once(std::chrono::milliseconds(-1)));
  EXPECT_EQ(busy_dials_.size(), kCount);
  for (const auto& [port, dials] : busy_dials_) EXPECT_LE(dials, 2) << port;
}

TEST_F(VirtioVsockTest, ClosesAHostProgramToWhichTheGuestDoesNotAnswerIn5Seconds) {
  for (const bool has_buffers : {true, false}) {
    guest_ = std::make_unique<FakeGuest>(*loop_, *device_);
    guest_->start(true, has_buffers ? 128 : 0);
    auto sockets = make_socket_pair();
    ASSERT_OK(sockets);
    device_->connect(std::move(sockets->first), 5005, [](int, std::uint32_t) { return true; });
    std::uint32_t port = 0;
    if (has_buffers) port = guest_->expect(VsockOp::kRequest).header.source_port;
    pass(4500ms);
    EXPECT_FALSE(at_end(sockets->second.get()));
    EXPECT_EQ(device_->connection_count(), 1U);
    pass(500ms);
    EXPECT_TRUE(at_end(sockets->second.get()));
    EXPECT_EQ(device_->connection_count(), 0U);
    if (!has_buffers) {
      // A request that the guest has never seen is withdrawn without a word.
      for (std::uint16_t i = 0; i < 8; ++i) guest_->give_receive_buffer(i);
      guest_->notify(0);
      EXPECT_FALSE(guest_->receive());
      continue;
    }
    guest_->expect(VsockOp::kReset);
    // Too late.
    guest_->send(VsockOp::kResponse, 5005, port);
    guest_->expect(VsockOp::kReset);
  }
}

TEST_F(VirtioVsockTest, WaitsForTheGuestsPartOfTheEndFor8Seconds) {
  guest_->start();
  open_from_guest();
  hosts_.clear();
  EXPECT_EQ(guest_->expect(VsockOp::kShutdown).header.flags, kVsockShutdownBoth);
  pass(7500ms);
  EXPECT_FALSE(guest_->receive());
  EXPECT_EQ(device_->connection_count(), 1U);
  pass(500ms);
  guest_->expect(VsockOp::kReset);
  EXPECT_EQ(device_->connection_count(), 0U);
}

TEST_F(VirtioVsockTest, LeavesConnectionsAloneThatAreOpenOrHalfClosedForHours) {
  guest_->start();
  open_from_guest(50000);
  open_from_guest(50001);
  ::shutdown(hosts_[0].get(), SHUT_WR);
  EXPECT_EQ(guest_->expect(VsockOp::kShutdown).header.flags, kVsockShutdownSend);
  pass(10h);
  EXPECT_FALSE(guest_->receive());
  for (const std::uint32_t port : {50000U, 50001U}) {
    guest_->send(VsockOp::kData, port, 1000, "late");
    EXPECT_EQ(read_host(hosts_[port - 50000].get()), "late");
  }
}

TEST_F(VirtioVsockTest, CarriesAThousandConnections) {
  guest_->start();
  for (std::uint32_t i = 0; i < 1000; ++i) open_from_guest(10000 + i);
  ASSERT_EQ(hosts_.size(), 1000U);
  for (std::uint32_t i = 0; i < 1000; ++i) {
    guest_->send(VsockOp::kData, 10000 + i, 1000, std::to_string(i));
    EXPECT_EQ(read_host(hosts_[i].get()), std::to_string(i));
  }
  for (std::uint32_t i = 0; i < 1000; ++i) {
    write_host(hosts_[i].get(), std::to_string(i));
    const Packet packet = guest_->expect(VsockOp::kData);
    EXPECT_EQ(packet.header.destination_port, 10000 + i);
    EXPECT_EQ(packet.payload, std::to_string(i));
  }
  for (std::uint32_t i = 0; i < 1000; ++i) {
    guest_->send(VsockOp::kShutdown, 10000 + i, 1000, {}, kVsockShutdownBoth);
    guest_->expect(VsockOp::kReset);
  }
  EXPECT_EQ(device_->connection_count(), 0U);
}

TEST_F(VirtioVsockTest, AnnouncesSmallerBuffersTheMoreConnectionsThereAre) {
  guest_->start();
  std::uint64_t sum = 0;
  for (std::uint32_t i = 0; i < 1100; ++i) {
    guest_->send(VsockOp::kRequest, 10000 + i, 1000);
    const Packet response = guest_->expect(VsockOp::kResponse);
    ASSERT_EQ(response.header.buffer_size, (i < 128 ? 256U : i < 1024 ? 64U : 16U) * 1024) << i;
    sum += response.header.buffer_size;
  }
  EXPECT_LT(sum, std::uint64_t{136} << 20);
}

TEST_F(VirtioVsockTest, ServesBusyConnectionsInTurn) {
  guest_->start(true, 2);
  for (const std::uint32_t port : {50000U, 50001U}) {
    guest_->send(VsockOp::kRequest, port, 1000);
    ASSERT_TRUE(guest_->receive(true));
  }
  // Both hosts have much to say before the driver gives a buffer.
  const std::string text(std::size_t{180} * 1024, 'f');
  write_host(hosts_[0].get(), text);
  write_host(hosts_[1].get(), text);
  ASSERT_FALSE(guest_->receive(true));
  for (std::uint16_t i = 2; i < 128; ++i) guest_->give_receive_buffer(i);
  guest_->notify(0);
  std::map<std::uint32_t, std::size_t> bytes;
  std::uint32_t last = 0;
  std::size_t in_one_go = 0;
  while (const auto packet = guest_->receive(true)) {
    const std::uint32_t port = packet->header.destination_port;
    in_one_go = (port == last ? in_one_go : 0) + packet->payload.size();
    last = port;
    bytes[port] += packet->payload.size();
    // Until one of them has no more to say.
    if (bytes[50000] < text.size() && bytes[50001] < text.size()) {
      EXPECT_LE(in_one_go, 128U * 1024);
    }
  }
  EXPECT_EQ(bytes[50000], text.size());
  EXPECT_EQ(bytes[50001], text.size());
}

TEST_F(VirtioVsockTest, ServesBusyConnectionsInTurnThroughSmallBuffers) {
  constexpr std::uint32_t kSmallBuffer = VsockHeader::kSize + 10;
  guest_->start(true, 2);
  for (const std::uint32_t port : {50000U, 50001U}) {
    guest_->send(VsockOp::kRequest, port, 1000);
    ASSERT_TRUE(guest_->receive(true));
  }
  const std::string text(1000, 'f');
  write_host(hosts_[0].get(), text);
  write_host(hosts_[1].get(), text);
  for (std::uint16_t i = 2; i < 250; ++i) {
    guest_->queues[0].set_descriptor(i, FakeGuest::kReceiveBuffers + std::uint64_t{i} * FakeGuest::kReceiveBufferSize,
                                     kSmallBuffer, 2);
    guest_->queues[0].offer(i);
  }
  guest_->notify(0);
  std::vector<int> in_one_go;
  std::uint32_t last = 0;
  while (const auto packet = guest_->receive(true)) {
    if (packet->header.destination_port != last) in_one_go.push_back(0);
    last = packet->header.destination_port;
    ++in_one_go.back();
  }
  EXPECT_EQ(in_one_go, (std::vector<int>{40, 40, 40, 40, 20, 20}));
}

TEST_F(VirtioVsockTest, LeavesTheLoopToOthersWhileTheGuestFloodsIt) {
  guest_->queues[1].size = 1024;
  guest_->start();
  // Nothing has to be done about resets of connections that are not there, but each has to be looked at.
  const auto bytes = guest_->header(VsockOp::kReset, 1, 2).serialize();
  std::copy(bytes.begin(), bytes.end(), guest_->memory().begin() + FakeGuest::kTransmitBuffers);
  for (std::uint16_t i = 0; i < 1000; ++i) {
    guest_->queues[1].set_descriptor(i, FakeGuest::kTransmitBuffers, VsockHeader::kSize, 0);
    guest_->queues[1].offer(i);
  }
  guest_->kick_only(1);
  ASSERT_OK(loop_->run_once(0ms));
  EXPECT_EQ(guest_->queues[1].used_index(), 512);
  guest_->pump();
  EXPECT_EQ(guest_->queues[1].used_index(), 1000);
}

TEST_F(VirtioVsockTest, LeavesTheLoopToOthersWhileTheGuestSendsMuch) {
  guest_->start();
  constexpr std::uint32_t kConnections = 12;
  for (std::uint32_t i = 0; i < kConnections; ++i) open_from_guest(50000 + i);
  // All of them fill their windows: 3 MiB, in packets of 64 KiB.
  const std::uint16_t before = guest_->queues[1].used_index();
  std::uint16_t descriptor = 0;
  for (std::uint32_t i = 0; i < kConnections; ++i) {
    VsockHeader header = guest_->header(VsockOp::kData, 50000 + i, 1000);
    header.length = 65536;
    const std::uint64_t address = FakeGuest::kTransmitBuffers + std::uint64_t{i} * VsockHeader::kSize;
    const auto bytes = header.serialize();
    std::copy(bytes.begin(), bytes.end(), guest_->memory().begin() + static_cast<std::ptrdiff_t>(address));
    for (int packet = 0; packet < 4; ++packet) {
      const std::uint16_t head = descriptor++;
      guest_->queues[1].set_descriptor(head, address, VsockHeader::kSize, 1, descriptor);
      guest_->queues[1].set_descriptor(descriptor++, FakeGuest::kTransmitBuffers + 0x1000, 65536, 0);
      guest_->queues[1].offer(head);
    }
  }
  guest_->kick_only(1);
  ASSERT_OK(loop_->run_once(0ms));
  EXPECT_EQ(guest_->queues[1].used_index(), before + 32) << "2 MiB";
  guest_->pump();
  EXPECT_EQ(guest_->queues[1].used_index(), before + 48);
  EXPECT_EQ(device_->connection_count(), kConnections);
}

TEST_F(VirtioVsockTest, LeavesTheLoopToOthersWhileTheHostSendsMuch) {
  guest_->queues[0].size = 1024;
  guest_->start(true, 0);
  constexpr std::uint32_t kConnections = 16;
  for (std::uint16_t i = 0; i < kConnections; ++i) {
    guest_->give_receive_buffer(i);
    guest_->send(VsockOp::kRequest, 50000U + i, 1000);
    ASSERT_TRUE(guest_->receive(true));
  }
  const std::string text(std::size_t{170} * 1024, 'h');
  for (const Fd& program : hosts_) write_host(program.get(), text);
  const std::uint16_t before = guest_->queues[0].used_index();
  for (std::uint16_t i = kConnections; i < 760; ++i) guest_->give_receive_buffer(i);
  guest_->kick_only(0);
  ASSERT_OK(loop_->run_once(0ms));
  const int first = guest_->queues[0].used_index() - before;
  EXPECT_GE(first, 512);
  EXPECT_LE(first, 512 + 40) << "the buffers of a round, and those of the turn that was begun";
  std::size_t got = 0;
  while (auto packet = guest_->receive(true)) got += packet->payload.size();
  EXPECT_EQ(got, text.size() * kConnections);
}

TEST_F(VirtioVsockTest, ASlowReaderSlowsNobodyElse) {
  guest_->start();
  open_from_guest(50000);
  open_from_guest(50001);
  const std::string block(65536, 'b');
  // Its window, none of which the first host reads.
  for (int i = 0; i < 4; ++i) guest_->send(VsockOp::kData, 50000, 1000, block);
  for (int i = 0; i < 4; ++i) {
    guest_->send(VsockOp::kData, 50001, 1000, block);
    EXPECT_EQ(read_host(hosts_[1].get()), block);
  }
  write_host(hosts_[1].get(), "answer");
  std::string got;
  while (auto packet = guest_->receive()) got += packet->payload;
  EXPECT_EQ(got, "answer");
}

TEST_F(VirtioVsockTest, ReadsOnBehindAMessageWithDescriptorsAndTakesNone) {
  guest_->start();
  open_from_guest();
  const auto open_descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
  };
  const auto before = open_descriptors();
  // A read of the stream ends at a message with descriptors; all three are there before the device looks.
  for (const std::string_view text : {"one ", "two ", "three"}) {
    iovec piece{const_cast<char*>(text.data()), text.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int passed = host();
    std::memcpy(CMSG_DATA(header), &passed, sizeof passed);
    ASSERT_EQ(::sendmsg(host(), &message, MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  std::string got;
  guest_->pump();
  while (auto packet = guest_->receive()) got += packet->payload;
  EXPECT_EQ(got, "one two three");
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(VirtioVsockTest, KeepsAPacketForWhichNoBufferIsLargeEnough) {
  guest_->start(true, 1);
  guest_->send(VsockOp::kRequest, 50000, 1000);
  ASSERT_TRUE(guest_->receive(true));
  // The host has data, and the guest asks for credit; what it gives is too small for a header, then for data.
  write_host(host(), "data");
  guest_->send(VsockOp::kCreditRequest, 50000, 1000);
  const auto give = [&](std::uint16_t index, std::uint32_t size) {
    guest_->queues[0].set_descriptor(
        index, FakeGuest::kReceiveBuffers + std::uint64_t{index} * FakeGuest::kReceiveBufferSize, size, 2);
    guest_->queues[0].offer(index);
    guest_->notify(0);
  };
  give(1, VsockHeader::kSize - 1);
  ASSERT_EQ(guest_->queues[0].next_used(), (std::pair<std::uint32_t, std::uint32_t>(1, 0)));
  give(2, VsockHeader::kSize);
  auto packet = guest_->receive(true);
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->op(), VsockOp::kCreditUpdate);
  give(3, VsockHeader::kSize);
  ASSERT_EQ(guest_->queues[0].next_used(), (std::pair<std::uint32_t, std::uint32_t>(3, 0)));
  give(4, 4096);
  packet = guest_->receive(true);
  ASSERT_TRUE(packet);
  EXPECT_EQ(packet->payload, "data");
}

TEST_F(VirtioVsockTest, RefusesConnectionsPastTheirLimitOnBothSides) {
  busy_ = 1'000'000;
  guest_->start();
  // Connections that are being dialled: no descriptors.
  for (std::uint32_t i = 0; i < 4096; ++i) {
    guest_->put(guest_->header(VsockOp::kRequest, 10000 + i, 1001));
    if (i % 32 == 31) guest_->notify(1);
  }
  ASSERT_EQ(device_->connection_count(), 4096U);
  EXPECT_FALSE(guest_->receive());
  guest_->send(VsockOp::kRequest, 20000, 1001);
  EXPECT_EQ(guest_->expect(VsockOp::kReset).header.destination_port, 20000U);
  auto sockets = make_socket_pair();
  ASSERT_OK(sockets);
  device_->connect(std::move(sockets->first), 5005, [](int, std::uint32_t) { return true; });
  EXPECT_TRUE(at_end(sockets->second.get()));
}

TEST_F(VirtioVsockTest, UsesAPortAgainWhenItsConnectionIsOver) {
  guest_->start();
  for (int i = 0; i < 3; ++i) {
    open_from_guest();
    guest_->send(VsockOp::kData, 50000, 1000, "old");
    guest_->send(VsockOp::kReset, 50000, 1000);
    EXPECT_EQ(read_host(host()), "old");
    EXPECT_TRUE(at_end(host()));
  }
}

TEST_F(VirtioVsockTest, ForgetsAConnectionThatWaitsForABufferWhenTheGuestResetsIt) {
  guest_->start(true, 2);
  for (const std::uint32_t port : {50000U, 50001U}) {
    guest_->send(VsockOp::kRequest, port, 1000);
    ASSERT_TRUE(guest_->receive(true));
  }
  write_host(hosts_[0].get(), "to the first");
  write_host(hosts_[1].get(), "to the second");
  guest_->send(VsockOp::kReset, 50000, 1000);
  EXPECT_EQ(device_->connection_count(), 1U);
  for (std::uint16_t i = 0; i < 4; ++i) guest_->give_receive_buffer(i);
  guest_->notify(0);
  EXPECT_EQ(guest_->expect(VsockOp::kData).payload, "to the second");
  EXPECT_FALSE(guest_->receive());
}

TEST_F(VirtioVsockTest, LooksAtOnceForPacketsThatWereThereBeforeItStarted) {
  // The driver's kick may have gone to a device that did not run.
  guest_->negotiate();
  guest_->share_memory();
  guest_->set_up_queue(0);
  guest_->set_up_queue(1);
  guest_->give_receive_buffer(0);
  guest_->put(guest_->header(VsockOp::kRequest, 50000, 1000));
  for (std::uint32_t i = 0; i < 2; ++i) guest_->front_end->send(18, testing::pack(i, std::uint32_t{1}));
  guest_->expect(VsockOp::kResponse);
}

TEST_F(VirtioVsockTest, SaysNothingToANewDriverThatWasMeantForTheOldOne) {
  guest_->start(true, 0);
  guest_->send(VsockOp::kData, 7, 7);            // to be refused
  guest_->send(VsockOp::kRequest, 50000, 1000);  // to be answered
  guest_->front_end->send(11, testing::pack(std::uint32_t{0}, std::uint32_t{0}));
  EXPECT_TRUE(guest_->front_end->reply());
  EXPECT_EQ(device_->connection_count(), 0U);
  guest_->set_up_queue(0);
  EXPECT_TRUE(guest_->backend().device_running());
  for (std::uint16_t i = 0; i < 4; ++i) guest_->give_receive_buffer(i);
  guest_->notify(0);
  EXPECT_FALSE(guest_->receive());
}

TEST_F(VirtioVsockTest, DropsAllConnectionsWhenTheDriverStops) {
  guest_->start();
  open_from_guest();
  guest_->front_end->send(11, testing::pack(std::uint32_t{0}, std::uint32_t{0}));
  EXPECT_TRUE(guest_->front_end->reply());
  EXPECT_TRUE(at_end(host()));
  EXPECT_EQ(device_->connection_count(), 0U);
}

}  // namespace
}  // namespace nitro::proc
