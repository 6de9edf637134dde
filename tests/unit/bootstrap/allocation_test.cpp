// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/allocator/allocation.h"

#include <gtest/gtest.h>

#include <future>

#include "made_up_kernel.h"

namespace nitro::allocator {
namespace {

using testing::MachineTree;
using testing::MadeUpKernel;

class AllocationTest : public ::testing::Test {
 protected:
  [[nodiscard]] std::string run_folder() const { return folder_ / "run"; }
  [[nodiscard]] std::string file() const { return run_folder() + "/allocator-before.json"; }
  Result<Reservation> allocate(const std::string& config) {
    NITRO_TRY(const AllocatorConfig wanted, parse_allocator_config(config, "a.yaml"));
    NITRO_TRY(const Record record, Record::open(run_folder()));
    return allocator::allocate(wanted, kernel_, record, {});
  }
  /// The present pages stay.
  Result<Reservation> allocate_cpus(std::vector<std::uint32_t> cpus, std::uint32_t count = 0) {
    AllocatorConfig wanted;
    wanted.pools.push_back({.pages = {}, .cpu_count = count, .cpus = std::move(cpus), .numa_node = {}});
    NITRO_TRY(const Record record, Record::open(run_folder()));
    return allocator::allocate(wanted, kernel_, record, {});
  }
  Result<void> release() {
    NITRO_TRY(const Record record, Record::open(run_folder()));
    return allocator::release(kernel_, record);
  }
  [[nodiscard]] std::string state() const { return testing::state_of(kernel_); }

  MachineTree machine_{{.nodes = 2, .cores_per_node = 4, .threads = 2}};
  MadeUpKernel kernel_{machine_};
  testing::TempFolder folder_;
};

TEST_F(AllocationTest, IsGivenBack) {
  machine_.set_pages(0, 2048, 7, 7);
  machine_.set_pages(1, 1048576, 1, 1);
  const std::string before = state();
  ASSERT_OK(allocate("memory_mib: 512\ncpu_count: 2\n"));
  EXPECT_EQ(state(), "pool 1,9 pages 1G 0 2M 256 | 1G 1 2M 0");
  ASSERT_OK(release());
  EXPECT_EQ(state(), before);
  EXPECT_FALSE(std::filesystem::exists(file()));
}

TEST_F(AllocationTest, TakesThePlaceOfTheOneBefore) {
  machine_.set_pages(0, 2048, 7, 7);
  const std::string before = state();
  ASSERT_OK(allocate("memory_mib: 512\ncpu_count: 2\n"));
  ASSERT_OK(allocate("memory_mib: 512\ncpu_count: 2\nnuma_node: 1\n"));
  EXPECT_EQ(state(), "pool 4,12 pages 1G 0 2M 7 | 1G 0 2M 256");
  ASSERT_OK(release());
  EXPECT_EQ(state(), before);
}

TEST_F(AllocationTest, OfCpusAloneLeavesAllPages) {
  machine_.set_pages(0, 2048, 7, 7);
  machine_.set_pages(1, 1048576, 1, 1);
  const std::string before = state();
  const auto first = allocate_cpus({}, 2);
  ASSERT_OK(first);
  EXPECT_TRUE(first->pages.empty());
  EXPECT_EQ(state(), "pool 1,9 pages 1G 0 2M 7 | 1G 1 2M 0");
  ASSERT_OK(allocate("memory_mib: 512\ncpu_count: 2\n"));
  ASSERT_OK(allocate_cpus({4, 12}));
  EXPECT_EQ(state(), "pool 4,12 pages 1G 0 2M 256 | 1G 1 2M 0");
  ASSERT_OK(release());
  EXPECT_EQ(state(), before);
}

TEST_F(AllocationTest, OfTheSameCpusIsThereAlready) {
  ASSERT_OK(allocate_cpus({1, 9}));
  kernel_.enclaves_run = true;
  const auto again = allocate_cpus({9, 1});
  ASSERT_OK(again);
  EXPECT_TRUE(again->was_there);
  EXPECT_EQ(allocate_cpus({2, 10}).error().system_errno(), EPERM);
  EXPECT_EQ(state(), "pool 1,9 pages 1G 0 2M 0 | 1G 0 2M 0");
}

TEST_F(AllocationTest, OfCpusThatTheDriverRefusesRestoresTheOthers) {
  ASSERT_OK(allocate_cpus({1, 9}));
  kernel_.refused = {2, 10};
  EXPECT_FALSE(allocate_cpus({2, 10}));
  EXPECT_EQ(state(), "pool 1,9 pages 1G 0 2M 0 | 1G 0 2M 0");
}

TEST_F(AllocationTest, ThatFailsChangesNothing) {
  const std::string before = state();
  EXPECT_FALSE(allocate("memory_mib: 512\ncpu_count: 100\n"));
  EXPECT_EQ(state(), before);
  EXPECT_FALSE(std::filesystem::exists(file()));
  ASSERT_OK(allocate("memory_mib: 512\ncpu_count: 2\n"));
  const std::string reserved = state();
  EXPECT_FALSE(allocate("memory_mib: 512\ncpu_count: 100\n"));
  EXPECT_EQ(state(), reserved);
  ASSERT_OK(release());
  EXPECT_EQ(state(), before);
}

TEST_F(AllocationTest, CannotBeGivenBackWhileEnclavesRun) {
  ASSERT_OK(allocate("memory_mib: 512\ncpu_count: 2\n"));
  const std::string reserved = state();
  kernel_.enclaves_run = true;
  const auto released = release();
  ASSERT_FALSE(released);
  EXPECT_EQ(released.error().system_errno(), EPERM);
  EXPECT_EQ(state(), reserved);
  kernel_.enclaves_run = false;
  ASSERT_OK(release());
  EXPECT_EQ(state(), "pool  pages 1G 0 2M 0 | 1G 0 2M 0");
}

TEST_F(AllocationTest, OfAnotherToolLosesOnlyItsCpus) {
  machine_.set_pages(0, 2048, 256, 256);
  ASSERT_OK(kernel_.set_cpu_pool({1, 9}));
  const auto there = allocate("memory_mib: 512\ncpu_count: 2\n");
  ASSERT_OK(there);
  EXPECT_TRUE(there->was_there);
  ASSERT_OK(release());
  EXPECT_EQ(state(), "pool  pages 1G 0 2M 256 | 1G 0 2M 0");
}

TEST_F(AllocationTest, IsRefusedWithADamagedRecord) {
  ASSERT_OK(allocate("memory_mib: 512\ncpu_count: 2\n"));
  const std::string reserved = state();
  for (const char* text : {"", "{", "{}", R"({"cpu_pool": "x", "nodes": []})", R"({"cpu_pool": "", "nodes": [1]})",
                           R"({"cpu_pool": "", "nodes": [{"id": 0, "pages": [{}]}]})"}) {
    testing::write_file(file(), text);
    const auto again = allocate("memory_mib: 100\ncpu_count: 2\n");
    ASSERT_FALSE(again) << text;
    EXPECT_NE(again.error().message().find("allocator-before.json"), std::string::npos);
    EXPECT_EQ(state(), reserved);
  }
}

TEST_F(AllocationTest, WaitsForAnotherAllocator) {
  auto record = Record::open(run_folder());
  ASSERT_OK(record);
  auto other = std::async(std::launch::async, [this] { return Record::open(run_folder()).has_value(); });
  EXPECT_EQ(other.wait_for(std::chrono::milliseconds(200)), std::future_status::timeout);
  { const Record ended = std::move(*record); }
  EXPECT_TRUE(other.get());
}

}  // namespace
}  // namespace nitro::allocator
