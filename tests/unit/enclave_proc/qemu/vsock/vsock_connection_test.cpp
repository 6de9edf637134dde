// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/vsock_connection.h"

#include <gtest/gtest.h>

#include <vector>

namespace nitro::proc {
namespace {

using namespace std::chrono_literals;
using Action = VsockConnection::Action;
using State = VsockConnection::State;

constexpr std::uint32_t kBuffer = 1000;
constexpr std::uint32_t kGuestBuffer = 500;
constexpr VsockConnection::Clock::time_point kStart{};

VsockHeader from_guest(VsockOp op, std::uint32_t length = 0, std::uint32_t flags = 0) {
  VsockHeader header;
  header.source_cid = 42;
  header.destination_cid = 3;
  header.source_port = 50000;
  header.destination_port = 1000;
  header.op = static_cast<std::uint16_t>(op);
  header.length = length;
  header.flags = flags;
  header.buffer_size = kGuestBuffer;
  return header;
}

VsockHeader credit(std::uint32_t buffer_size, std::uint32_t forwarded) {
  VsockHeader header = from_guest(VsockOp::kCreditUpdate);
  header.buffer_size = buffer_size;
  header.forwarded_count = forwarded;
  return header;
}

VsockConnection dialling() {
  return VsockConnection::asked_by_guest(from_guest(VsockOp::kRequest), kBuffer, kStart);
}

VsockConnection requested() {
  return VsockConnection::asked_by_host({.guest_cid = 42, .host_cid = 3, .guest_port = 50000, .host_port = 1000},
                                        kBuffer, kStart);
}

VsockHeader send(VsockConnection& connection, VsockOp op, std::uint32_t length = 0) {
  const VsockHeader packet = connection.packet(op, length);
  connection.sent(packet, kStart);
  return packet;
}

VsockConnection open() {
  VsockConnection connection = dialling();
  connection.host_connected();
  send(connection, VsockOp::kResponse);
  return connection;
}

/// All packets that are due, as if the guest took each, without data.
std::vector<VsockOp> drain(VsockConnection& connection) {
  std::vector<VsockOp> ops;
  while (const auto op = connection.due_control()) {
    ops.push_back(*op);
    send(connection, *op);
    if (ops.size() > 10) break;
  }
  return ops;
}

using Ops = std::vector<VsockOp>;

TEST(VsockConnection, OfTheGuestIsOpenAndAnsweredWhenTheHostIsConnected) {
  VsockConnection connection = dialling();
  EXPECT_EQ(connection.state(), State::kDialing);
  EXPECT_FALSE(connection.due());
  EXPECT_EQ(connection.deadline(), kStart + 2s);
  connection.host_connected();
  EXPECT_EQ(connection.state(), State::kOpen);
  EXPECT_FALSE(connection.deadline());
  EXPECT_EQ(connection.due(), VsockOp::kResponse);
  const VsockHeader response = send(connection, VsockOp::kResponse);
  EXPECT_EQ(response.source_cid, 3U);
  EXPECT_EQ(response.source_port, 1000U);
  EXPECT_EQ(response.destination_cid, 42U);
  EXPECT_EQ(response.destination_port, 50000U);
  EXPECT_EQ(response.buffer_size, kBuffer);
  EXPECT_FALSE(connection.due());
}

TEST(VsockConnection, OfTheHostIsOpenWhenTheGuestAnswers) {
  VsockConnection connection = requested();
  EXPECT_EQ(connection.due(), VsockOp::kRequest);
  EXPECT_EQ(connection.deadline(), kStart + 5s);
  send(connection, VsockOp::kRequest);
  EXPECT_FALSE(connection.due());
  EXPECT_EQ(connection.take(from_guest(VsockOp::kResponse)), Action::kAccept);
  EXPECT_EQ(connection.state(), State::kOpen);
  EXPECT_FALSE(connection.deadline());
  EXPECT_FALSE(connection.due());
}

/// What a packet of the guest does in each state.
struct Case {
  const char* name;
  VsockConnection (*state)();
  VsockHeader packet;
  Action action;
};

VsockConnection asked() {
  VsockConnection connection = requested();
  send(connection, VsockOp::kRequest);
  return connection;
}

TEST(VsockConnection, TakesThePacketsThatFitItsStateAndIsResetByOthers) {
  const auto unknown = static_cast<VsockOp>(99);
  const auto zero = static_cast<VsockOp>(0);
  const Case cases[] = {
      {"dialing, request", dialling, from_guest(VsockOp::kRequest), Action::kReset},
      {"dialing, response", dialling, from_guest(VsockOp::kResponse), Action::kReset},
      {"dialing, reset", dialling, from_guest(VsockOp::kReset), Action::kForget},
      {"dialing, shutdown", dialling, from_guest(VsockOp::kShutdown, 0, 3), Action::kReset},
      {"dialing, data", dialling, from_guest(VsockOp::kData, 1), Action::kReset},
      {"dialing, credit update", dialling, from_guest(VsockOp::kCreditUpdate), Action::kNothing},
      {"dialing, credit request", dialling, from_guest(VsockOp::kCreditRequest), Action::kNothing},
      {"dialing, unknown", dialling, from_guest(unknown), Action::kReset},
      {"request not sent yet, response", requested, from_guest(VsockOp::kResponse), Action::kReset},
      {"requested, request", asked, from_guest(VsockOp::kRequest), Action::kReset},
      {"requested, response", asked, from_guest(VsockOp::kResponse), Action::kAccept},
      {"requested, reset", asked, from_guest(VsockOp::kReset), Action::kForget},
      {"requested, shutdown", asked, from_guest(VsockOp::kShutdown, 0, 3), Action::kReset},
      {"requested, data", asked, from_guest(VsockOp::kData, 1), Action::kReset},
      {"requested, unknown", asked, from_guest(zero), Action::kReset},
      {"open, request", open, from_guest(VsockOp::kRequest), Action::kReset},
      {"open, response", open, from_guest(VsockOp::kResponse), Action::kReset},
      {"open, reset", open, from_guest(VsockOp::kReset), Action::kForget},
      {"open, shutdown of nothing", open, from_guest(VsockOp::kShutdown, 0, 4), Action::kShutdown},
      {"open, shutdown to receive", open, from_guest(VsockOp::kShutdown, 0, 1), Action::kShutdown},
      {"open, shutdown to send", open, from_guest(VsockOp::kShutdown, 0, 2), Action::kShutdown},
      {"open, shutdown of both", open, from_guest(VsockOp::kShutdown, 0, 3), Action::kReset},
      {"open, no data", open, from_guest(VsockOp::kData, 0), Action::kDeliver},
      {"open, all the data there is room for", open, from_guest(VsockOp::kData, kBuffer), Action::kDeliver},
      {"open, one byte more", open, from_guest(VsockOp::kData, kBuffer + 1), Action::kReset},
      {"open, credit update", open, from_guest(VsockOp::kCreditUpdate), Action::kNothing},
      {"open, unknown", open, from_guest(unknown), Action::kReset},
  };
  for (const Case& test : cases) {
    VsockConnection connection = test.state();
    EXPECT_EQ(connection.take(test.packet), test.action) << test.name;
    const bool over = test.action == Action::kReset || test.action == Action::kForget;
    EXPECT_EQ(connection.state() == State::kClosed, over) << test.name;
    if (over) {
      EXPECT_FALSE(connection.due()) << test.name;
      EXPECT_FALSE(connection.deadline()) << test.name;
      EXPECT_EQ(connection.take(from_guest(VsockOp::kData, 1)), Action::kNothing) << test.name;
    }
  }
}

TEST(VsockConnection, IsClosedByItsResetAndSaysNothingAfterIt) {
  VsockConnection connection = open();
  connection.host_readable();
  ASSERT_EQ(connection.due(), VsockOp::kData);
  EXPECT_TRUE(connection.reset_packet().is(VsockOp::kReset));
  EXPECT_FALSE(connection.due());
  EXPECT_FALSE(connection.due_control());
}

TEST(VsockConnection, GivesUpWhenItsTimeIsOver) {
  VsockConnection of_guest = dialling();
  EXPECT_EQ(of_guest.expire(), Action::kReset);
  VsockConnection unsent = requested();
  EXPECT_EQ(unsent.expire(), Action::kForget) << "the guest never heard of it";
  VsockConnection sent = asked();
  EXPECT_EQ(sent.expire(), Action::kReset);
}

TEST(VsockConnection, IsWithdrawnWhenTheHostsProgramGoesBeforeTheGuestHasAnswered) {
  VsockConnection unsent = requested();
  EXPECT_EQ(unsent.host_hung_up(), Action::kForget);
  VsockConnection sent = asked();
  EXPECT_EQ(sent.host_hung_up(), Action::kReset);
}

TEST(VsockConnection, CountsTheGuestsCreditWithNumbersThatWrap) {
  VsockConnection connection = open();
  EXPECT_EQ(connection.credit(), kGuestBuffer);
  send(connection, VsockOp::kData, 500);
  EXPECT_EQ(connection.credit(), 0U);
  connection.take(credit(kGuestBuffer, 200));
  EXPECT_EQ(connection.credit(), 200U);
  connection.take(credit(100, 200));
  EXPECT_EQ(connection.credit(), 0U) << "its buffer has become smaller than what is in flight";
  connection.take(credit(kGuestBuffer, 501));
  EXPECT_EQ(connection.credit(), 0U) << "more than it got";
  // Up to the end of 32 bits and past it.
  std::uint32_t sent = 500;
  connection.take(credit(0x4000'0000, sent));
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(connection.credit(), 0x4000'0000U);
    send(connection, VsockOp::kData, 0x4000'0000);
    EXPECT_EQ(connection.credit(), 0U);
    sent += 0x4000'0000;
    connection.take(credit(0x4000'0000, sent));
  }
}

TEST(VsockConnection, AsksOnceForCreditAndAgainAfterItGotSome) {
  VsockConnection connection = open();
  EXPECT_FALSE(connection.due());
  connection.host_readable();
  EXPECT_EQ(connection.due(), VsockOp::kData);
  send(connection, VsockOp::kData, kGuestBuffer);
  EXPECT_EQ(connection.due(), VsockOp::kCreditRequest);
  EXPECT_EQ(connection.due(), VsockOp::kCreditRequest) << "it stays due until the guest has got it";
  send(connection, VsockOp::kCreditRequest);
  EXPECT_FALSE(connection.due());
  connection.take(credit(kGuestBuffer, 0));
  EXPECT_FALSE(connection.due()) << "no news";
  connection.take(credit(kGuestBuffer, 10));
  EXPECT_EQ(connection.due(), VsockOp::kData);
  send(connection, VsockOp::kData, 10);
  EXPECT_EQ(connection.due(), VsockOp::kCreditRequest);
}

TEST(VsockConnection, DoesNotAskForCreditThatItHasNoUseFor) {
  VsockConnection connection = open();
  connection.host_readable();
  send(connection, VsockOp::kData, kGuestBuffer);
  connection.host_drained();
  EXPECT_FALSE(connection.due());
}

TEST(VsockConnection, TellsTheGuestWhenAQuarterOfItsBufferHasBecomeFree) {
  VsockConnection connection = open();
  ASSERT_EQ(connection.take(from_guest(VsockOp::kData, 600)), Action::kDeliver);
  connection.delivered(249);
  EXPECT_FALSE(connection.due());
  connection.delivered(1);
  EXPECT_EQ(connection.due(), VsockOp::kCreditUpdate);
  EXPECT_EQ(send(connection, VsockOp::kCreditUpdate).forwarded_count, 250U);
  EXPECT_FALSE(connection.due());
}

TEST(VsockConnection, TellsCreditWithEveryPacketAndOnlyOnceItWasSent) {
  VsockConnection connection = open();
  connection.take(from_guest(VsockOp::kData, 400));
  connection.delivered(400);
  ASSERT_EQ(connection.due(), VsockOp::kCreditUpdate);
  // Made, but no buffer was there for it.
  static_cast<void>(connection.packet(VsockOp::kCreditUpdate));
  EXPECT_EQ(connection.due(), VsockOp::kCreditUpdate);
  connection.host_readable();
  EXPECT_EQ(send(connection, VsockOp::kData, 1).forwarded_count, 400U);
  connection.host_drained();
  EXPECT_FALSE(connection.due());
}

TEST(VsockConnection, AnswersTheGuestsQuestionForCreditHoweverLittleItIs) {
  VsockConnection connection = open();
  connection.take(from_guest(VsockOp::kCreditRequest));
  EXPECT_EQ(connection.due(), VsockOp::kCreditUpdate);
  send(connection, VsockOp::kCreditUpdate);
  EXPECT_FALSE(connection.due());
}

TEST(VsockConnection, HasRoomForAsMuchAsTheHostHasTaken) {
  VsockConnection connection = open();
  EXPECT_EQ(connection.take(from_guest(VsockOp::kData, 700)), Action::kDeliver);
  EXPECT_EQ(connection.take(from_guest(VsockOp::kData, 300)), Action::kDeliver);
  connection.delivered(10);
  EXPECT_EQ(connection.take(from_guest(VsockOp::kData, 10)), Action::kDeliver);
  EXPECT_EQ(connection.take(from_guest(VsockOp::kData, 1)), Action::kReset);
}

TEST(VsockConnection, DropsWhatTheGuestSendsToAHostThatReadsNoMore) {
  VsockConnection connection = open();
  connection.take(from_guest(VsockOp::kData, 100));
  connection.host_stopped_reading();
  EXPECT_FALSE(connection.host_reads());
  EXPECT_EQ(drain(connection), (Ops{VsockOp::kShutdown}));
  // It may have been under way; and there is always room, as nothing is kept.
  for (int i = 0; i < 5; ++i) EXPECT_EQ(connection.take(from_guest(VsockOp::kData, kBuffer)), Action::kNothing);
  EXPECT_EQ(connection.due(), VsockOp::kCreditUpdate);
}

TEST(VsockConnection, TellsEachHalfOfItsEndOnceAndAddsUpTheFlags) {
  VsockConnection connection = open();
  connection.host_finished();
  EXPECT_EQ(connection.due(), VsockOp::kShutdown);
  EXPECT_EQ(send(connection, VsockOp::kShutdown).flags, kVsockShutdownSend);
  EXPECT_FALSE(connection.deadline()) << "half-closed, for as long as both like";
  EXPECT_FALSE(connection.due());
  connection.host_finished();
  EXPECT_FALSE(connection.due());
  connection.host_stopped_reading();
  EXPECT_EQ(send(connection, VsockOp::kShutdown).flags, kVsockShutdownBoth);
  EXPECT_FALSE(connection.due());
  EXPECT_EQ(connection.deadline(), kStart + 8s) << "for the guest's RST";
  EXPECT_EQ(connection.expire(), Action::kReset);
}

TEST(VsockConnection, SendsWhatIsThereBeforeItTellsOfTheEnd) {
  VsockConnection connection = open();
  EXPECT_EQ(connection.host_hung_up(), Action::kNothing);
  EXPECT_EQ(connection.due(), VsockOp::kData);
  send(connection, VsockOp::kData, 3);
  EXPECT_EQ(connection.due(), VsockOp::kData);
  connection.host_finished();
  EXPECT_EQ(connection.due(), VsockOp::kShutdown);
  EXPECT_EQ(send(connection, VsockOp::kShutdown).flags, kVsockShutdownBoth);
}

TEST(VsockConnection, ClosesBothHalvesWhenTheHostHangsUpAfterItsEnd) {
  VsockConnection connection = open();
  connection.host_finished();
  send(connection, VsockOp::kShutdown);
  EXPECT_EQ(connection.host_hung_up(), Action::kNothing);
  EXPECT_EQ(send(connection, VsockOp::kShutdown).flags, kVsockShutdownBoth);
}

TEST(VsockConnection, ClosesBothHalvesWhenTheHostHangsUpAndTheGuestReadsNoMore) {
  for (const bool guest_first : {true, false}) {
    VsockConnection connection = open();
    if (guest_first) connection.take(from_guest(VsockOp::kShutdown, 0, kVsockShutdownReceive));
    EXPECT_EQ(connection.host_hung_up(), Action::kNothing);
    if (!guest_first) connection.take(from_guest(VsockOp::kShutdown, 0, kVsockShutdownReceive));
    EXPECT_EQ(connection.due(), VsockOp::kShutdown);
    EXPECT_EQ(send(connection, VsockOp::kShutdown).flags, kVsockShutdownBoth);
  }
}

TEST(VsockConnection, SendsNoDataToAGuestThatReadsNoMoreAndTakesItsData) {
  VsockConnection connection = open();
  connection.host_readable();
  connection.take(from_guest(VsockOp::kShutdown, 0, kVsockShutdownReceive));
  EXPECT_FALSE(connection.guest_receives());
  EXPECT_TRUE(connection.guest_sends());
  EXPECT_FALSE(connection.due());
  EXPECT_EQ(connection.take(from_guest(VsockOp::kData, 5)), Action::kDeliver);
}

TEST(VsockConnection, TakesNoDataFromAGuestThatWritesNoMoreAndSendsItData) {
  VsockConnection connection = open();
  connection.take(from_guest(VsockOp::kShutdown, 0, kVsockShutdownSend));
  EXPECT_TRUE(connection.guest_receives());
  EXPECT_FALSE(connection.guest_sends());
  connection.host_readable();
  EXPECT_EQ(connection.due(), VsockOp::kData);
  EXPECT_EQ(connection.take(from_guest(VsockOp::kData, 1)), Action::kReset);
}

TEST(VsockConnection, IsOverWhenTheGuestHasShutBothHalvesDownOneAfterTheOther) {
  VsockConnection connection = open();
  EXPECT_EQ(connection.take(from_guest(VsockOp::kShutdown, 0, kVsockShutdownSend)), Action::kShutdown);
  // Flags are never taken back.
  EXPECT_EQ(connection.take(from_guest(VsockOp::kShutdown, 0, 0)), Action::kShutdown);
  EXPECT_EQ(connection.take(from_guest(VsockOp::kShutdown, 0, kVsockShutdownReceive)), Action::kReset);
}

TEST(VsockHeader, AResetGoesBackWhereThePacketCameFrom) {
  VsockHeader packet = from_guest(VsockOp::kData, 5);
  packet.type = 2;
  const VsockHeader reset = packet.reset();
  EXPECT_TRUE(reset.is(VsockOp::kReset));
  EXPECT_EQ(reset.source_cid, 3U);
  EXPECT_EQ(reset.destination_cid, 42U);
  EXPECT_EQ(reset.source_port, 1000U);
  EXPECT_EQ(reset.destination_port, 50000U);
  EXPECT_EQ(reset.type, 2U);
  EXPECT_EQ(reset.length, 0U);
}

}  // namespace
}  // namespace nitro::proc
