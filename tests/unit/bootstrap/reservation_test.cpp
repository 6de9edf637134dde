// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/allocator/reservation.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "made_up_kernel.h"
#include "src/base/memory_size.h"

namespace nitro::allocator {
namespace {

using testing::MachineTree;
using testing::MadeUpKernel;
using Ids = std::vector<std::uint32_t>;

class ReservationTest : public ::testing::Test {
 protected:
  Result<Reservation> reserve(const std::string& config) {
    auto wanted = parse_allocator_config(config, "a.yaml");
    EXPECT_OK(wanted);
    return allocator::reserve(*wanted, kernel_, progress_);
  }
  std::string fault(const std::string& config) {
    const auto reservation = reserve(config);
    return reservation ? "it is reserved" : reservation.error().message();
  }
  [[nodiscard]] std::string state() const { return testing::state_of(kernel_); }

  MachineTree machine_{{.nodes = 2, .cores_per_node = 8, .threads = 2}};
  MadeUpKernel kernel_{machine_};
  Progress progress_;
};

TEST_F(ReservationTest, SetsPagesAndCpus) {
  const auto reservation = reserve("memory_mib: 1536\ncpu_count: 4\n");
  ASSERT_OK(reservation);
  EXPECT_EQ(reservation->cpus, (Ids{1, 2, 17, 18}));
  EXPECT_EQ(reservation->node, 0U);
  ASSERT_EQ(reservation->pages.size(), 2U);
  EXPECT_EQ(reservation->pages[1].count, 256U);
  EXPECT_FALSE(reservation->was_there);
  EXPECT_EQ(state(), "pool 1-2,17-18 pages 1G 1 2M 256 | 1G 0 2M 0");
}

TEST_F(ReservationTest, ChangesNothingWhenItIsThere) {
  ASSERT_OK(reserve("memory_mib: 1536\ncpu_count: 4\n"));
  const int changes = kernel_.changes;
  // Enclaves may use it meanwhile.
  kernel_.enclaves_run = true;
  const auto again = reserve("memory_mib: 1536\ncpu_count: 4\n");
  ASSERT_OK(again);
  EXPECT_TRUE(again->was_there);
  EXPECT_EQ(again->cpus, (Ids{1, 2, 17, 18}));
  EXPECT_EQ(kernel_.changes, changes);
}

TEST_F(ReservationTest, MayBeChanged) {
  ASSERT_OK(reserve("memory_mib: 1536\ncpu_count: 4\n"));
  ASSERT_OK(reserve("memory_mib: 100\ncpu_pool: 3,19\n"));
  EXPECT_EQ(state(), "pool 3,19 pages 1G 0 2M 50 | 1G 0 2M 0");
}

TEST_F(ReservationTest, IsRefusedWhileEnclavesRun) {
  ASSERT_OK(reserve("memory_mib: 512\ncpu_count: 2\n"));
  const std::string before = state();
  kernel_.enclaves_run = true;
  EXPECT_EQ(fault("memory_mib: 512\ncpu_count: 4\n").find("enclaves are running"), 0U);
  EXPECT_EQ(state(), before);
}

TEST_F(ReservationTest, NeedsTheDriver) {
  std::filesystem::remove_all(machine_.files().driver());
  EXPECT_EQ(fault("memory_mib: 512\ncpu_count: 2\n").find("the driver nitro_enclaves is not loaded: modprobe"), 0U);
  EXPECT_EQ(kernel_.changes, 0);
}

TEST_F(ReservationTest, TakesSmallerPagesForThoseThatThereAreNot) {
  kernel_.limits[kernel_.folder(0, 1048576)] = 1;
  const auto reservation = reserve("memory_mib: 3072\ncpu_count: 2\n");
  ASSERT_OK(reservation);
  EXPECT_EQ(state(), "pool 1,17 pages 1G 1 2M 1024 | 1G 0 2M 0");
  EXPECT_EQ(reservation->missing_bytes, 0U);
  EXPECT_GT(kernel_.compactions, 0);
}

TEST_F(ReservationTest, CompactsMemoryBeforeItGivesUp) {
  kernel_.limits[kernel_.folder(0, 1048576)] = 1;
  kernel_.compactions_that_help = 2;
  ASSERT_OK(reserve("memory_mib: 3072\ncpu_count: 2\n"));
  EXPECT_EQ(state(), "pool 1,17 pages 1G 3 2M 0 | 1G 0 2M 0");
}

TEST_F(ReservationTest, GoesToAnotherNodeForPages) {
  machine_.set_pages(0, 2048, 7, 7);
  kernel_.limits[kernel_.folder(0, 2048)] = 100;
  ASSERT_OK(reserve("memory_mib: 512\ncpu_count: 2\n"));
  EXPECT_EQ(state(), "pool 8,24 pages 1G 0 2M 7 | 1G 0 2M 256");
}

TEST_F(ReservationTest, LeavesWhatOthersUse) {
  kernel_.used = 5;
  machine_.set_pages(0, 2048, 9, 4);
  const auto reservation = reserve("pages: {2M: 100}\ncpu_count: 2\n");
  ASSERT_OK(reservation);
  EXPECT_EQ(reservation->pages.at(0).count, 100U);
  EXPECT_EQ(kernel_.topology().value().nodes[0].pages_of(2 * kMiB)->total, 105U);
}

TEST_F(ReservationTest, RestoresEverythingWhenThereIsNotEnoughMemory) {
  ASSERT_OK(reserve("memory_mib: 512\ncpu_count: 4\n"));
  machine_.set_pages(1, 1048576, 2, 2);
  const std::string before = state();
  for (const unsigned node : {0U, 1U}) {
    kernel_.limits[kernel_.folder(node, 2048)] = 300;
    kernel_.limits[kernel_.folder(node, 1048576)] = 2;
  }
  EXPECT_EQ(
      fault("memory_mib: 4096\ncpu_count: 2\n"),
      "NUMA node 0 has 1448 MiB too little memory in huge pages for the 4096 MiB that the configuration asks for");
  EXPECT_EQ(state(), before);
  EXPECT_EQ(fault("pages: {1G: 3}\ncpu_count: 2\n"),
            "NUMA node 0 has 2 of the 3 huge pages of 1G that the configuration asks for; the kernel parameters "
            "hugepagesz=1G hugepages=0:3 set them aside at the start");
  EXPECT_EQ(state(), before);
}

TEST_F(ReservationTest, RestoresEverythingWhenTheDriverRefusesTheCpus) {
  machine_.set_pages(0, 2048, 3, 3);
  const std::string before = state();
  kernel_.refuses_cpus = true;
  EXPECT_EQ(fault("memory_mib: 512\ncpu_count: 2\n").find("writing"), 0U);
  EXPECT_EQ(state(), before);
}

TEST_F(ReservationTest, RestoresEverythingWhenThereAreNotEnoughCpus) {
  ASSERT_OK(reserve("memory_mib: 512\ncpu_count: 4\n"));
  const std::string before = state();
  EXPECT_EQ(fault("memory_mib: 512\ncpu_count: 64\n").find("NUMA node 0 has 14 CPUs"), 0U);
  EXPECT_EQ(state(), before);
}

TEST_F(ReservationTest, RestoresEverythingWhenItIsCancelledAtAnyStep) {
  ASSERT_OK(reserve("memory_mib: 1536\ncpu_count: 4\n"));
  const std::string before = state();
  bool ended = false;
  for (int steps = 0; !ended; ++steps) {
    progress_.is_cancelled = [left = steps]() mutable { return left-- == 0; };
    ended = reserve("memory_mib: 3584\ncpu_count: 2\n").has_value();
    if (!ended) {
      EXPECT_EQ(state(), before) << steps;
    }
    ASSERT_LT(steps, 100);
  }
}

TEST_F(ReservationTest, MayBeLessIfThatIsAllowed) {
  kernel_.limits[kernel_.folder(0, 2048)] = 100;
  const auto reservation = reserve("memory_mib: 512\ncpu_count: 2\nrequired: false\n");
  ASSERT_OK(reservation);
  EXPECT_EQ(reservation->missing_bytes, 312 * kMiB);
  EXPECT_EQ(state(), "pool 1,17 pages 1G 0 2M 100 | 1G 0 2M 0");
}

}  // namespace
}  // namespace nitro::allocator
