// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/virtqueue.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <random>

#include "tests/unit/enclave_proc/qemu/vsock/fake_guest.h"

namespace nitro::proc {
namespace {

using testing::DriverQueue;
using testing::FakeGuest;
using Popped = Virtqueue::Popped;

class VirtqueueTest : public ::testing::Test {
 protected:
  static constexpr std::uint64_t kSize = 1 << 20;
  static constexpr std::uint16_t kEntries = 8;

  void SetUp() override {
    fd_ = FakeGuest::make_memory(kSize);
    ASSERT_OK(guest_.add({0, kSize, 0x1000'0000, 0}, fd_.get()));
    driver_.memory = guest_.at_user_address(0x1000'0000, kSize);
    driver_.base = 0x1000;
    driver_.size = kEntries;
    make();
  }
  void make(bool event_index = false, std::uint16_t next = 0) {
    Virtqueue::Layout layout;
    layout.size = kEntries;
    layout.descriptors = driver_.memory.subspan(driver_.descriptors(), Virtqueue::descriptor_table_bytes(kEntries));
    layout.available = driver_.memory.subspan(driver_.available(), Virtqueue::available_ring_bytes(kEntries));
    layout.used = driver_.memory.subspan(driver_.used(), Virtqueue::used_ring_bytes(kEntries));
    layout.next_available = next;
    layout.event_index = event_index;
    queue_ = Virtqueue::create(layout, guest_);
    ASSERT_TRUE(queue_);
  }
  /// What pop() says of the one chain that begins with descriptor 0.
  bool accepts_chain() {
    driver_.offer(0);
    EXPECT_EQ(queue_->pop(chain_), Popped::kChain);
    return chain_.valid;
  }

  Fd fd_;
  GuestMemory guest_;
  DriverQueue driver_;
  std::optional<Virtqueue> queue_;
  DescriptorChain chain_;
};

TEST_F(VirtqueueTest, HandsOutChainsInOrderAndTheirPiecesByDirection) {
  driver_.set_descriptor(3, 0x8000, 10, 1, 5);
  driver_.set_descriptor(5, 0x9000, 20, 3, 1);
  driver_.set_descriptor(1, 0xa000, 30, 2);
  EXPECT_EQ(queue_->pop(chain_), Popped::kEmpty);
  driver_.offer(3);
  ASSERT_EQ(queue_->pop(chain_), Popped::kChain);
  ASSERT_TRUE(chain_.valid);
  EXPECT_EQ(chain_.head, 3);
  ASSERT_EQ(chain_.readable.size(), 1U);
  EXPECT_EQ(chain_.readable[0].iov_base, driver_.memory.data() + 0x8000);
  EXPECT_EQ(chain_.readable[0].iov_len, 10U);
  ASSERT_EQ(chain_.writable.size(), 2U);
  EXPECT_EQ(chain_.writable[1].iov_len, 30U);
  EXPECT_EQ(queue_->pop(chain_), Popped::kEmpty);

  queue_->complete(3, 50);
  EXPECT_EQ(driver_.used_index(), 0);
  queue_->publish(-1);
  EXPECT_EQ(driver_.next_used(), std::pair(std::uint32_t{3}, std::uint32_t{50}));
}

TEST_F(VirtqueueTest, WrapsItsIndexes) {
  driver_.next_available = 65530;
  driver_.set_available_index(65530);
  make(false, 65530);
  driver_.set_descriptor(0, 0x8000, 1, 0);
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(accepts_chain());
    queue_->complete(0, 0);
    queue_->publish(-1);
  }
  EXPECT_EQ(queue_->next_available(), 14);
  EXPECT_EQ(driver_.used_index(), 20);
}

TEST_F(VirtqueueTest, PutsBackWhatWasNotUsed) {
  driver_.set_descriptor(0, 0x8000, 1, 0);
  driver_.set_descriptor(1, 0x9000, 1, 0);
  driver_.offer(0);
  driver_.offer(1);
  EXPECT_EQ(queue_->pop(chain_), Popped::kChain);
  EXPECT_EQ(queue_->pop(chain_), Popped::kChain);
  queue_->put_back(2);
  EXPECT_EQ(queue_->pop(chain_), Popped::kChain);
  EXPECT_EQ(chain_.head, 0);
}

TEST_F(VirtqueueTest, RefusesBuffersThatAreNotMemory) {
  const struct {
    std::uint64_t address;
    std::uint32_t length;
  } bad[] = {{kSize, 1},
             {kSize - 1, 2},
             {0, kSize + 1},
             {0, 0xffffffff},
             {~std::uint64_t{0}, 1},
             {~std::uint64_t{0}, 2},
             {~std::uint64_t{0} - 5, 0xffffffff},
             {std::uint64_t{1} << 63, 16}};
  for (const auto& buffer : bad) {
    driver_.set_descriptor(0, buffer.address, buffer.length, 0);
    EXPECT_FALSE(accepts_chain()) << buffer.address << " " << buffer.length;
    driver_.set_descriptor(0, buffer.address, buffer.length, 2);
    EXPECT_FALSE(accepts_chain()) << buffer.address << " " << buffer.length;
  }
  driver_.set_descriptor(0, kSize - 1, 1, 0);
  EXPECT_TRUE(accepts_chain());
}

TEST_F(VirtqueueTest, RefusesChainsThatLoop) {
  driver_.set_descriptor(0, 0x8000, 1, 1, 0);
  EXPECT_FALSE(accepts_chain());
  driver_.set_descriptor(0, 0x8000, 1, 1, 1);
  driver_.set_descriptor(1, 0x8000, 1, 1, 0);
  EXPECT_FALSE(accepts_chain());
}

TEST_F(VirtqueueTest, RefusesChainsThatLeaveTheTable) {
  driver_.set_descriptor(0, 0x8000, 1, 1, kEntries);
  EXPECT_FALSE(accepts_chain());
  driver_.set_descriptor(0, 0x8000, 1, 1, 0xffff);
  EXPECT_FALSE(accepts_chain());
}

TEST_F(VirtqueueTest, RefusesReadableBuffersBehindWritableOnes) {
  driver_.set_descriptor(0, 0x8000, 1, 3, 1);
  driver_.set_descriptor(1, 0x9000, 1, 0);
  EXPECT_FALSE(accepts_chain());
}

TEST_F(VirtqueueTest, RefusesIndirectDescriptorsWhichWereNotOffered) {
  driver_.set_descriptor(0, 0x8000, 16, 4);
  EXPECT_FALSE(accepts_chain());
}

TEST_F(VirtqueueTest, IsBrokenForGoodByAnIndexThatJumps) {
  driver_.set_descriptor(0, 0x8000, 1, 0);
  driver_.set_available_index(kEntries + 1);
  EXPECT_EQ(queue_->pop(chain_), Popped::kBroken);
  driver_.set_available_index(1);
  EXPECT_EQ(queue_->pop(chain_), Popped::kBroken);
  EXPECT_TRUE(queue_->broken());
}

TEST_F(VirtqueueTest, IsBrokenByAHeadOutsideTheTable) {
  driver_.offer(kEntries);
  EXPECT_EQ(queue_->pop(chain_), Popped::kBroken);
}

TEST_F(VirtqueueTest, TellsTheDriverOnlyWhenItWantsToBeTold) {
  Fd call(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  const auto told = [&] {
    std::uint64_t count = 0;
    return ::read(call.get(), &count, sizeof count) == 8;
  };
  driver_.set_descriptor(0, 0x8000, 1, 0);
  const auto use_one = [&] {
    ASSERT_TRUE(accepts_chain());
    queue_->complete(0, 0);
    queue_->publish(call.get());
  };
  use_one();
  EXPECT_TRUE(told());
  queue_->publish(call.get());
  EXPECT_FALSE(told()) << "nothing new";
  store_le<std::uint16_t>(driver_.memory.subspan(driver_.available()), 1);
  use_one();
  EXPECT_FALSE(told()) << "VIRTQ_AVAIL_F_NO_INTERRUPT";

  make(true, queue_->next_available());
  const auto used_event = driver_.memory.subspan(driver_.available() + 4 + 2 * kEntries);
  store_le<std::uint16_t>(used_event, 3);
  use_one();
  EXPECT_FALSE(told()) << "used index 3, wanted past 3";
  use_one();
  EXPECT_TRUE(told());
}

TEST_F(VirtqueueTest, AsksForKicksInTheWayThatWasNegotiated) {
  const auto flags = [&] { return load_le<std::uint16_t>(driver_.memory.subspan(driver_.used())); };
  queue_->disable_kicks();
  EXPECT_EQ(flags(), 1);
  EXPECT_FALSE(queue_->enable_kicks());
  EXPECT_EQ(flags(), 0);
  driver_.offer(0);
  EXPECT_TRUE(queue_->enable_kicks());

  make(true, 0);
  EXPECT_EQ(queue_->pop(chain_), Popped::kChain);
  EXPECT_FALSE(queue_->enable_kicks());
  EXPECT_EQ(load_le<std::uint16_t>(driver_.memory.subspan(driver_.used() + 4 + 8 * kEntries)), 1);
}

TEST_F(VirtqueueTest, IsNotMadeFromPartsOfTheWrongSizeOrAlignment) {
  Virtqueue::Layout good;
  good.size = kEntries;
  good.descriptors = driver_.memory.subspan(0x1000, Virtqueue::descriptor_table_bytes(kEntries));
  good.available = driver_.memory.subspan(0x2000, Virtqueue::available_ring_bytes(kEntries));
  good.used = driver_.memory.subspan(0x3000, Virtqueue::used_ring_bytes(kEntries));
  EXPECT_TRUE(Virtqueue::create(good, guest_));
  auto layout = good;
  layout.size = 0;
  EXPECT_FALSE(Virtqueue::create(layout, guest_));
  layout.size = 7;
  EXPECT_FALSE(Virtqueue::create(layout, guest_));
  layout = good;
  layout.descriptors = driver_.memory.subspan(0x1008, layout.descriptors.size());
  EXPECT_FALSE(Virtqueue::create(layout, guest_));
  layout = good;
  layout.available = driver_.memory.subspan(0x2001, layout.available.size());
  EXPECT_FALSE(Virtqueue::create(layout, guest_));
  layout = good;
  layout.used = driver_.memory.subspan(0x3002, layout.used.size());
  EXPECT_FALSE(Virtqueue::create(layout, guest_));
  layout = good;
  layout.used = {};
  EXPECT_FALSE(Virtqueue::create(layout, guest_));
}

TEST_F(VirtqueueTest, SurvivesRandomRings) {
  std::mt19937 random(1);
  const auto rings =
      driver_.memory.subspan(driver_.base, driver_.used() + Virtqueue::used_ring_bytes(kEntries) - driver_.base);
  for (int round = 0; round < 20'000; ++round) {
    for (std::byte& byte : rings) {
      if (random() % 4 == 0) byte = static_cast<std::byte>(random() % 3 == 0 ? random() : random() % kEntries);
    }
    make(random() % 2 == 0, static_cast<std::uint16_t>(driver_.used_index()));
    for (int i = 0; i < 10; ++i) {
      if (queue_->pop(chain_) != Popped::kChain) break;
      for (const auto* pieces : {&chain_.readable, &chain_.writable}) {
        for (const iovec& piece : *pieces) {
          const auto* start = static_cast<const std::byte*>(piece.iov_base);
          ASSERT_GE(start, driver_.memory.data());
          ASSERT_LE(start + piece.iov_len, driver_.memory.data() + kSize);
        }
      }
      queue_->complete(chain_.head, 0);
    }
    queue_->publish(-1);
  }
}

TEST(GuestMemory, JoinsBuffersOverRegionsThatMeet) {
  const Fd fd = FakeGuest::make_memory(0x4000);
  GuestMemory memory;
  ASSERT_OK(memory.add({0x0000, 0x1000, 0x70000, 0}, fd.get()));
  ASSERT_OK(memory.add({0x1000, 0x1000, 0x90000, 0x2000}, fd.get()));
  ASSERT_OK(memory.add({0x8000, 0x1000, 0xa0000, 0x3000}, fd.get()));
  std::vector<iovec> pieces;
  ASSERT_TRUE(memory.append(0xff0, 0x20, pieces));
  ASSERT_EQ(pieces.size(), 2U);
  EXPECT_EQ(pieces[0].iov_len, 0x10U);
  EXPECT_EQ(pieces[1].iov_len, 0x10U);
  EXPECT_FALSE(memory.append(0x1ff0, 0x20, pieces)) << "a hole follows";
  EXPECT_EQ(pieces.size(), 2U);
  EXPECT_TRUE(memory.append(0x123456, 0, pieces)) << "nothing is nowhere";
  EXPECT_EQ(memory.at_user_address(0x70ff0, 0x10).size(), 0x10U);
  EXPECT_TRUE(memory.at_user_address(0x70ff0, 0x11).empty());
  EXPECT_TRUE(memory.at_user_address(0x6ffff, 1).empty());
  EXPECT_TRUE(memory.at_user_address(0x70ff0, ~std::uint64_t{0}).empty());
}

TEST(GuestMemory, HasEightRegionsAndNoMore) {
  const Fd fd = FakeGuest::make_memory(0x1000);
  GuestMemory memory;
  const auto region = [](std::uint64_t i) {
    return MemoryRegionLayout{.guest_address = i * 0x1000, .size = 0x1000, .user_address = i * 0x1000};
  };
  for (std::uint64_t i = 0; i < 8; ++i) ASSERT_OK(memory.add(region(i), fd.get()));
  const auto ninth = memory.add(region(8), fd.get());
  ASSERT_FALSE(ninth);
  EXPECT_EQ(ninth.error().message(), "a region of guest memory is one too many");
  EXPECT_EQ(memory.region_count(), 8U);
}

TEST(GuestMemory, RefusesRegionsThatMakeNoSense) {
  const Fd fd = FakeGuest::make_memory(0x4000);
  GuestMemory memory;
  ASSERT_OK(memory.add({0x0000, 0x1000, 0x70000, 0}, fd.get()));
  const MemoryRegionLayout bad[] = {
      {0x2000, 0, 0x90000, 0},                               // empty
      {0x2000, 0x5000, 0x90000, 0},                          // longer than the file
      {0x2000, 0x1000, 0x90000, 0x3001},                     // its end is
      {0x0fff, 0x1000, 0x90000, 0},                          // overlaps in the guest
      {0x2000, 0x1000, 0x70fff, 0},                          // overlaps in the front-end
      {~std::uint64_t{0} - 0xfff, 0x2000, 0x90000, 0},       // wraps
      {0x2000, 0x2000, ~std::uint64_t{0} - 0xfff, 0},        // wraps
      {0x2000, 0x1000, 0x90000, ~std::uint64_t{0} - 0x7ff},  // wraps
  };
  for (const auto& layout : bad) EXPECT_FALSE(memory.add(layout, fd.get()));
  EXPECT_EQ(memory.region_count(), 1U);
}

TEST(GuestMemory, RefusesFilesThatMayShrink) {
  GuestMemory memory;
  const Fd cannot_be_sealed = FakeGuest::make_memory(0x1000, F_SEAL_SEAL);
  EXPECT_FALSE(memory.add({0, 0x1000, 0, 0}, cannot_be_sealed.get()));
  const Fd pipe = std::move(make_pipe()->first);
  EXPECT_FALSE(memory.add({0, 0x1000, 0, 0}, pipe.get()));
  const Fd unsealed = FakeGuest::make_memory(0x1000, 0);
  EXPECT_OK(memory.add({0, 0x1000, 0, 0}, unsealed.get()));
  EXPECT_EQ(::ftruncate(unsealed.get(), 0), -1) << "it has been sealed";
}

}  // namespace
}  // namespace nitro::proc
