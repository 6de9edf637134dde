// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/vhost_user.h"

#include <gtest/gtest.h>

#include <random>

#include "descriptor_limit.h"
#include "tests/unit/enclave_proc/qemu/vsock/fake_guest.h"

namespace nitro::proc {
namespace {

using testing::FakeGuest;
using testing::FrontEnd;
using testing::pack;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

class VhostUserTest : public testing::VsockFixture {
 protected:
  FrontEnd& qemu() { return *guest_->front_end; }
};

TEST_F(VhostUserTest, OffersWhatItCanDo) {
  qemu().send(1);
  const auto features = qemu().reply();
  ASSERT_TRUE(features);
  EXPECT_EQ(features->type, 1U);
  EXPECT_EQ(features->flags, 5U) << "version 1, reply";
  EXPECT_EQ(features->at<u64>(0), u64{1} << 32 | u64{1} << 30 | u64{1} << 29);
  qemu().send(15);
  EXPECT_EQ(qemu().reply()->at<u64>(0), 0x209U);
  qemu().send(17);
  EXPECT_EQ(qemu().reply()->at<u64>(0), 2U);
}

TEST_F(VhostUserTest, GivesTheConfigurationSpace) {
  qemu().send(24, pack(u32{0}, u32{8}, u32{0}, u64{0}));
  const auto config = qemu().reply();
  ASSERT_TRUE(config);
  ASSERT_EQ(config->payload.size(), 20U);
  EXPECT_EQ(config->at<u64>(12), FakeGuest::kCid);
  // Past its end: an answer without payload.
  qemu().send(24, pack(u32{4}, u32{8}, u32{0}, u64{0}));
  EXPECT_TRUE(qemu().reply()->payload.empty());
  qemu().send(24, pack(u32{0xfffffffc}, u32{8}, u32{0}, u64{0}));
  EXPECT_TRUE(qemu().reply()->payload.empty());
}

TEST_F(VhostUserTest, StartsTheDeviceWhenBothQueuesAreSetUpAndEnabled) {
  guest_->negotiate();
  guest_->share_memory();
  guest_->set_up_queue(0);
  guest_->set_up_queue(1);
  qemu().send(18, pack(u32{0}, u32{1}));
  EXPECT_FALSE(guest_->backend().device_running());
  qemu().send(18, pack(u32{1}, u32{1}));
  EXPECT_TRUE(guest_->backend().device_running());
  qemu().send(18, pack(u32{1}, u32{0}));
  EXPECT_FALSE(guest_->backend().device_running());
}

TEST_F(VhostUserTest, StartsTheDeviceWithoutAWordWhereNoneHasBeenAgreedOn) {
  // "If VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts directly in the enabled state."
  guest_->negotiate();
  qemu().send(2, pack(kFeatureVersion1 | kFeatureRingEventIndex));
  guest_->share_memory();
  guest_->set_up_queue(0);
  EXPECT_FALSE(guest_->backend().device_running());
  guest_->set_up_queue(1);
  EXPECT_TRUE(guest_->backend().device_running());
}

TEST_F(VhostUserTest, TakesNewEventDescriptorsWhileItRuns) {
  guest_->start();
  open_from_guest();
  // A blocking one would let the front-end stop the process.
  const Fd kick(::eventfd(0, EFD_CLOEXEC));
  qemu().send(12, pack(u64{1}), {kick.get()});
  EXPECT_NE(::fcntl(kick.get(), F_GETFL) & O_NONBLOCK, 0);
  guest_->put(guest_->header(VsockOp::kData, 50000, 1000));
  guest_->put(guest_->header(VsockOp::kRequest, 50001, 1000));
  const u64 one = 1;
  EXPECT_EQ(::write(kick.get(), &one, sizeof one), 8);
  guest_->expect(VsockOp::kResponse);
  EXPECT_EQ(device_->connection_count(), 2U);

  // Buffers may have been used while there was nobody to tell.
  const Fd call(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  qemu().send(13, pack(u64{0}), {call.get()});
  u64 count = 0;
  EXPECT_EQ(::read(call.get(), &count, sizeof count), 8);
}

TEST_F(VhostUserTest, LeavesTheLoopToOthersWhileTheFrontEndIsChatty) {
  for (int i = 0; i < 100; ++i) qemu().send_raw(pack(u32{1}, u32{1}, u32{0}));
  ASSERT_OK(loop_->run_once(std::chrono::milliseconds(0)));
  int replies = 0;
  while (qemu().reply_that_is_there()) ++replies;
  EXPECT_EQ(replies, 32);
  while (qemu().reply()) ++replies;
  EXPECT_EQ(replies, 100);
}

TEST_F(VhostUserTest, TellsWhereItStoppedAndGoesOnThere) {
  guest_->start();
  open_from_guest();
  // From now on the driver looks only when it is interrupted.
  EXPECT_FALSE(guest_->receive());
  qemu().send(18, pack(u32{0}, u32{0}));
  qemu().send(11, pack(u32{1}, u32{0}));
  const auto base = qemu().reply();
  ASSERT_TRUE(base);
  EXPECT_EQ(base->at<u32>(0), 1U);
  EXPECT_EQ(base->at<u32>(4), 1U) << "one packet was sent";
  EXPECT_FALSE(guest_->backend().device_running());

  guest_->set_up_queue(1);
  qemu().send(10, pack(u32{1}, u32{1}));
  qemu().send(18, pack(u32{0}, u32{1}));
  EXPECT_TRUE(guest_->backend().device_running());
  guest_->send(VsockOp::kRequest, 50001, 1000);
  guest_->expect(VsockOp::kResponse);
}

TEST_F(VhostUserTest, TakesANewMemoryTableWhileItRuns) {
  guest_->start();
  open_from_guest();
  guest_->share_memory();
  open_from_guest(50001);
  EXPECT_EQ(device_->connection_count(), 2U);
  // A table without the rings is refused, and the device stops rather than touch what is gone.
  const Fd other = FakeGuest::make_memory(0x1000);
  EXPECT_EQ(qemu().acknowledged(5, pack(u32{1}, u32{0}, u64{0}, u64{0x1000}, u64{0x5000}, u64{0}), {other.get()}), 1U);
  EXPECT_FALSE(guest_->backend().device_running());
}

TEST_F(VhostUserTest, TakesAMemoryTableOfEightRegionsWithADescriptorForEachAndNoOther) {
  qemu().send(16, pack(u64{8}));
  const Fd file = FakeGuest::make_memory(0x1000);
  const auto table = [](u32 count, u32 regions) {
    auto payload = pack(count, u32{0});
    for (u64 i = 0; i < regions; ++i) {
      const auto region = pack(i * 0x1000, u64{0x1000}, i * 0x1000, u64{0});
      payload.insert(payload.end(), region.begin(), region.end());
    }
    return payload;
  };
  const auto fds = [&file](std::size_t count) { return std::vector<int>(count, file.get()); };
  EXPECT_EQ(qemu().acknowledged(5, table(8, 8), fds(8)), 0U);
  EXPECT_EQ(qemu().acknowledged(5, table(0, 0)), 0U);
  EXPECT_EQ(qemu().acknowledged(5, table(2, 2), fds(2)), 0U);
  EXPECT_EQ(qemu().acknowledged(5, table(2, 2), fds(1)), 1U) << "a descriptor too few";
  EXPECT_EQ(qemu().acknowledged(5, table(2, 2), fds(3)), 1U) << "a descriptor too many";
  EXPECT_EQ(qemu().acknowledged(5, table(2, 1), fds(2)), 1U) << "a region too few";
  EXPECT_EQ(qemu().acknowledged(5, table(9, 9), fds(8)), 1U);
  EXPECT_FALSE(guest_->ended);
}

TEST_F(VhostUserTest, AnswersUnknownRequestsWithAFailureWhenAskedAndIgnoresThemOtherwise) {
  qemu().send(16, pack(u64{8}));
  for (const u32 type : {u32{0}, u32{6}, u32{19}, u32{31}, u32{37}, u32{41}, u32{255}, ~u32{0}}) {
    EXPECT_EQ(qemu().acknowledged(type, pack(u64{7})), 1U) << type;
    qemu().send(type, pack(u64{7}));
    EXPECT_FALSE(qemu().reply()) << type;
  }
  EXPECT_FALSE(guest_->ended);
}

TEST_F(VhostUserTest, GivesNoAcknowledgementsThatWereNotNegotiated) {
  EXPECT_FALSE(qemu().acknowledged(3, {}));
  EXPECT_FALSE(guest_->ended);
  qemu().send(16, pack(u64{8}));
  EXPECT_EQ(qemu().acknowledged(3, {}), 0U);
}

TEST_F(VhostUserTest, ReadsRequestsThatArriveInPieces) {
  auto message = pack(u32{1}, u32{1}, u32{0});
  for (const std::byte byte : message) {
    EXPECT_FALSE(qemu().reply());
    qemu().send_raw(std::span(&byte, 1));
  }
  EXPECT_TRUE(qemu().reply());
}

TEST_F(VhostUserTest, EndsWhenTheFrontEndHangsUp) {
  guest_->start();
  open_from_guest();
  qemu().hang_up();
  guest_->pump();
  EXPECT_TRUE(guest_->ended);
  EXPECT_EQ(guest_->end_reason, "");
  EXPECT_TRUE(at_end(host()));
}

struct BadRequest {
  const char* name;
  u32 type;
  std::vector<std::byte> payload;
};

TEST_F(VhostUserTest, RefusesRequestsThatMakeNoSenseWithoutHarm) {
  const BadRequest bad[] = {
      {"features that were not offered", 2, pack(u64{1} << 26)},
      {"features of four bytes", 2, pack(u32{0})},
      {"protocol features that were not offered", 16, pack(u64{1} << 14 | 8)},
      {"no memory table", 5, {}},
      {"more regions than there are bytes", 5, pack(u32{2}, u32{0}, u64{0}, u64{0x1000}, u64{0}, u64{0})},
      {"nine regions", 5, pack(u32{9}, u32{0})},
      {"very many regions", 5, pack(~u32{0}, u32{0})},
      {"a region without a descriptor", 5, pack(u32{1}, u32{0}, u64{0}, u64{0x1000}, u64{0}, u64{0})},
      {"a queue of size 0", 8, pack(u32{0}, u32{0})},
      {"a queue of size 3", 8, pack(u32{0}, u32{3})},
      {"a queue of size 2048", 8, pack(u32{0}, u32{2048})},
      {"a queue of size 65536", 8, pack(u32{0}, u32{65536})},
      {"queue 2", 8, pack(u32{2}, u32{16})},
      {"queue 4294967295", 10, pack(~u32{0}, u32{0})},
      {"a base past 16 bits", 10, pack(u32{0}, u32{65536})},
      {"a short state", 18, pack(u32{0})},
      {"short addresses", 9, pack(u32{0}, u32{0}, u64{0})},
      {"a kick without descriptor", 12, pack(u64{0})},
      {"a kick for queue 9", 12, pack(u64{0x109})},
      {"enabling queue 2", 18, pack(u32{2}, u32{1})},
  };
  qemu().send(16, pack(u64{8}));
  for (const BadRequest& request : bad) {
    EXPECT_EQ(qemu().acknowledged(request.type, request.payload), 1U) << request.name;
    EXPECT_FALSE(guest_->ended) << request.name;
  }
}

TEST_F(VhostUserTest, EndsTheConversationWhenARequestWithoutAcknowledgementMakesNoSense) {
  qemu().send(8, pack(u32{7}, u32{16}));
  EXPECT_TRUE(guest_->ended);
  EXPECT_NE(guest_->end_reason.find("queue 7"), std::string::npos) << guest_->end_reason;
}

TEST_F(VhostUserTest, EndsTheConversationOnARequestThatIsTooLong) {
  qemu().send_raw(pack(u32{5}, u32{1}, u32{0x10000000}));
  qemu().pump();
  EXPECT_TRUE(guest_->ended);
}

TEST_F(VhostUserTest, EndsTheConversationOnAnotherVersion) {
  qemu().send(1, {}, {}, 2);
  EXPECT_TRUE(guest_->ended);
}

TEST_F(VhostUserTest, EndsTheConversationOnTooManyDescriptors) {
  const Fd fd(::eventfd(0, EFD_CLOEXEC));
  qemu().send(13, pack(u64{0}), std::vector<int>(20, fd.get()));
  EXPECT_TRUE(guest_->ended);
}

TEST_F(VhostUserTest, RefusesRingsOutsideTheMemory) {
  guest_->negotiate();
  guest_->share_memory();
  guest_->set_up_queue(0);
  const u64 bad[] = {0,
                     FakeGuest::kUserBase - 1,
                     FakeGuest::kUserBase + FakeGuest::kMemorySize,
                     FakeGuest::kUserBase + FakeGuest::kMemorySize - 100,
                     ~u64{0},
                     ~u64{0} - 4096,
                     FakeGuest::kUserBase + 1};
  qemu().send(8, pack(u32{1}, u32{256}));
  const Fd kick(::eventfd(0, EFD_CLOEXEC));
  qemu().send(12, pack(u64{1}), {kick.get()});
  qemu().send(18, pack(u32{0}, u32{1}));
  qemu().send(18, pack(u32{1}, u32{1}));
  const u64 good = FakeGuest::kUserBase + 0x20000;
  for (const u64 address : bad) {
    EXPECT_EQ(qemu().acknowledged(9, pack(u32{1}, u32{0}, address, good + 0x2000, good + 0x4000, u64{0})), 1U);
    EXPECT_EQ(qemu().acknowledged(9, pack(u32{1}, u32{0}, good, address, good + 0x4000, u64{0})), 1U);
    EXPECT_EQ(qemu().acknowledged(9, pack(u32{1}, u32{0}, good, good + 0x2000, address, u64{0})), 1U);
    EXPECT_FALSE(guest_->backend().device_running());
  }
  EXPECT_EQ(qemu().acknowledged(9, pack(u32{1}, u32{0}, good, good + 0x2000, good + 0x4000, u64{0})), 0U);
  EXPECT_TRUE(guest_->backend().device_running());
}

TEST_F(VhostUserTest, StopsADeviceWhoseRingIsBrokenAndSignalsIt) {
  guest_->start();
  open_from_guest();
  guest_->queues[1].set_available_index(20000);
  guest_->kick(1);
  EXPECT_FALSE(guest_->backend().device_running());
  EXPECT_TRUE(guest_->error_signalled(1));
  EXPECT_TRUE(at_end(host()));
  EXPECT_FALSE(guest_->ended);
}

TEST_F(VhostUserTest, StopsADeviceWhoseReceiveRingIsBrokenWhateverBringsItToLight) {
  for (const bool host_writes : {true, false}) {
    guest_ = std::make_unique<FakeGuest>(*loop_, *device_);
    guest_->start(true, 2);
    open_from_guest();
    guest_->queues[0].set_available_index(20000);
    if (host_writes) {
      write_host(host(), "data");
    } else {
      guest_->send(VsockOp::kRequest, 50001, 1000);
    }
    EXPECT_FALSE(guest_->backend().device_running());
    EXPECT_TRUE(guest_->error_signalled(0));
    EXPECT_FALSE(guest_->error_signalled(1));
    EXPECT_NE(guest_->backend().device_failure().find("queue 0"), std::string::npos)
        << guest_->backend().device_failure();
    EXPECT_FALSE(guest_->ended);
  }
}

TEST_F(VhostUserTest, LeavesADeviceStoppedUntilItsBrokenRingIsSetUpAnew) {
  guest_->start();
  guest_->queues[1].set_available_index(20000);
  guest_->kick(1);
  ASSERT_FALSE(guest_->backend().device_running());
  const Fd call(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  qemu().send(13, pack(u64{0}), {call.get()});
  qemu().send(18, pack(u32{0}, u32{1}));
  qemu().send(18, pack(u32{1}, u32{1}));
  EXPECT_FALSE(guest_->backend().device_running());
  guest_->queues[1].set_available_index(0);
  qemu().send(11, pack(u32{1}, u32{0}));
  EXPECT_TRUE(qemu().reply());
  guest_->set_up_queue(1);
  EXPECT_TRUE(guest_->backend().device_running());
  EXPECT_EQ(guest_->backend().device_failure(), "");
}

TEST_F(VhostUserTest, RefusesToChangeQueuesWhileTheyRun) {
  guest_->start();
  for (u32 i = 0; i < 2; ++i) {
    EXPECT_EQ(qemu().acknowledged(8, pack(i, u32{16})), 1U);
    EXPECT_EQ(qemu().acknowledged(10, pack(i, u32{5})), 1U);
    const u64 ring = FakeGuest::kUserBase + 0x40000;
    EXPECT_EQ(qemu().acknowledged(9, pack(i, u32{0}, ring, ring + 0x2000, ring + 0x4000, u64{0})), 1U);
  }
  EXPECT_TRUE(guest_->backend().device_running());
  open_from_guest();
}

TEST_F(VhostUserTest, WaitsForDescriptorsThatItHasNoPlaceForAndLosesNone) {
  NITRO_NEEDS_THE_LAST_DESCRIPTORS();
  guest_->negotiate();
  const Fd call(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  {
    const nitro::testing::DescriptorLimit limit;
    EXPECT_FALSE(qemu().acknowledged(13, pack(u64{0}), {call.get()}));
    EXPECT_FALSE(guest_->ended) << guest_->end_reason;
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_OK(loop_->run_once(std::chrono::milliseconds(-1)));
    EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(50)) << "it spins";
  }
  std::optional<FrontEnd::Reply> reply;
  while (!guest_->ended && !(reply = qemu().reply())) EXPECT_OK(loop_->run_once(std::chrono::milliseconds(-1)));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->at<u64>(0), 0U);
}

TEST_F(VhostUserTest, KeepsDescriptorsWithTheirRequestWhenManyWait) {
  qemu().send(16, pack(u64{8}));
  const Fd event(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  for (u64 i = 0; i < 4; ++i) {
    qemu().send_raw(pack(u32{3}, u32{1}, u32{0}));
    qemu().send_raw(pack(u32{13}, u32{9}, u32{8}, u64{i % 2}), {event.get()});
  }
  for (int i = 0; i < 4; ++i) {
    const auto reply = qemu().reply();
    ASSERT_TRUE(reply) << guest_->end_reason;
    EXPECT_EQ(reply->at<u64>(0), 0U);
  }
}

TEST_F(VhostUserTest, DoesNotSpinOnAKickDescriptorThatHasEnded) {
  guest_->start();
  auto pipe = make_pipe();
  ASSERT_OK(pipe);
  qemu().send(12, pack(u64{1}), {pipe->first.get()});
  pipe->second.reset();
  guest_->pump();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_OK(loop_->run_once(std::chrono::milliseconds(50)));
  EXPECT_GE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(40));
}

TEST_F(VhostUserTest, SurvivesRandomRequests) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 300; ++round) {
    guest_ = std::make_unique<FakeGuest>(*loop_, *device_);
    if (random() % 2 == 0) guest_->start(random() % 2 == 0);
    const Fd event(::eventfd(0, EFD_CLOEXEC));
    const Fd memory = FakeGuest::make_memory(0x10000);
    for (int i = 0; i < 40 && !guest_->ended; ++i) {
      std::vector<std::byte> payload(random() % 80);
      for (std::byte& byte : payload) byte = static_cast<std::byte>(random() % 3 == 0 ? random() : random() % 3);
      std::vector<int> fds;
      for (u64 count = random() % 3; count > 0; --count) fds.push_back(random() % 2 == 0 ? event.get() : memory.get());
      qemu().send(static_cast<u32>(random() % 45), payload, fds, random() % 2 == 0 ? 1 : 9);
      while (!guest_->ended && qemu().reply()) {
      }
    }
  }
}

TEST_F(VhostUserTest, SurvivesADriverThatScribblesOverItsRings) {
  std::mt19937_64 random(9);
  for (int round = 0; round < 60; ++round) {
    guest_ = std::make_unique<FakeGuest>(*loop_, *device_);
    guest_->start(random() % 2 == 0);
    open_from_guest();
    const auto rings = guest_->memory().subspan(0x10000, 0x20000);
    for (int i = 0; i < 30; ++i) {
      for (int change = 0; change < 20; ++change) {
        rings[random() % rings.size()] = static_cast<std::byte>(random());
        // The busy parts: indexes and first descriptors of both rings.
        const u64 ring = random() % 2 * 0x10000;
        rings[ring + random() % 512] = static_cast<std::byte>(random() % 4 == 0 ? random() : random() % 8);
        rings[ring + 4096 + random() % 64] = static_cast<std::byte>(random() % 16);
      }
      static_cast<void>(::send(host(), "some bytes for the guest", 24, MSG_DONTWAIT | MSG_NOSIGNAL));
      guest_->kick(static_cast<unsigned>(random() % 2));
    }
    hosts_.clear();
  }
}

}  // namespace
}  // namespace nitro::proc
