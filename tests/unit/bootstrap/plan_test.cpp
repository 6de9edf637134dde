// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/allocator/plan.h"

#include <gtest/gtest.h>

#include "machine_tree.h"
#include "src/base/memory_size.h"

namespace nitro::allocator {
namespace {

using testing::MachineTree;
using Ids = std::vector<std::uint32_t>;

Result<std::vector<Plan>> plans_for(const std::string& config, const MachineTree& machine) {
  NITRO_TRY(const AllocatorConfig wanted, parse_allocator_config(config, "a.yaml"));
  NITRO_TRY(const Topology topology, Topology::read(machine.files()));
  return make_plans(wanted, topology);
}

Plan best(const std::string& config, const MachineTree& machine) {
  auto plans = plans_for(config, machine);
  EXPECT_OK(plans);
  return plans ? plans->front() : Plan{};
}

std::string fault(const std::string& config, const MachineTree& machine) {
  const auto plans = plans_for(config, machine);
  return plans ? "there is a plan" : plans.error().message();
}

/// As "1x1024 256x2", with sizes in MiB.
std::string pages_of(const Plan& plan) {
  std::string text;
  for (const PlannedPages& pages : plan.pages) {
    if (pages.count() == 0) continue;
    text += (text.empty() ? "" : " ") + std::to_string(pages.count()) + "x" + std::to_string(pages.size_bytes / kMiB);
  }
  return text;
}

const MachineTree::Shape kTwoNodes{.nodes = 2, .cores_per_node = 8, .threads = 2};

TEST(Plan, TakesWholeCoresButNotThatOfCpu0) {
  const MachineTree machine(kTwoNodes);
  const Plan plan = best("memory_mib: 512\ncpu_count: 4\n", machine);
  EXPECT_EQ(plan.node, 0U);
  EXPECT_EQ(plan.cpus, (Ids{1, 2, 17, 18}));
  EXPECT_EQ(pages_of(plan), "256x2");
  EXPECT_EQ(best("memory_mib: 512\ncpu_count: 2\n", MachineTree({})).cpus, (Ids{1, 2}));
}

TEST(Plan, GoesToTheNextNodeForMoreCpus) {
  const MachineTree machine(kTwoNodes);
  // Node 0 has 14, as one core stays with CPU 0.
  EXPECT_EQ(best("memory_mib: 512\ncpu_count: 14\n", machine).node, 0U);
  const Plan plan = best("memory_mib: 512\ncpu_count: 16\n", machine);
  EXPECT_EQ(plan.node, 1U);
  EXPECT_EQ(plan.cpus.size(), 16U);
  const auto both = plans_for("memory_mib: 512\ncpu_count: 2\n", machine);
  ASSERT_OK(both);
  ASSERT_EQ(both->size(), 2U);
  EXPECT_EQ(both->at(1).node, 1U);
}

TEST(Plan, StaysOnTheNodeThatIsNamed) {
  const MachineTree machine(kTwoNodes);
  const auto plans = plans_for("memory_mib: 512\ncpu_count: 2\nnuma_node: 1\n", machine);
  ASSERT_OK(plans);
  ASSERT_EQ(plans->size(), 1U);
  EXPECT_EQ(plans->front().cpus, (Ids{8, 24}));
  EXPECT_EQ(fault("memory_mib: 512\ncpu_count: 2\nnuma_node: 2\n", machine),
            "this machine has no NUMA node 2: its nodes are 0-1");
}

TEST(Plan, TakesNoCpuThatIsOffline) {
  const MachineTree machine(kTwoNodes);
  machine.take_offline({17});
  EXPECT_EQ(best("memory_mib: 512\ncpu_count: 4\n", machine).cpus, (Ids{2, 3, 18, 19}));
  machine.take_offline({2});
  EXPECT_EQ(best("memory_mib: 512\ncpu_count: 4\n", machine).cpus, (Ids{3, 4, 19, 20}));
}

TEST(Plan, SaysWhyThereAreNotEnoughCpus) {
  const MachineTree machine(kTwoNodes);
  EXPECT_EQ(fault("memory_mib: 512\ncpu_count: 18\n", machine),
            "NUMA node 0 has 14 CPUs for enclaves (whole cores, without that of CPU 0), and 18 are asked for; "
            "NUMA node 1 has 16 CPUs for enclaves (whole cores, without that of CPU 0), and 18 are asked for");
  EXPECT_EQ(fault("memory_mib: 512\ncpu_count: 3\n", machine),
            "cpu_count is 3, but enclaves own whole cores, which have 2 threads: use 4");
}

TEST(Plan, MayHaveLessIfThatIsAllowed) {
  const MachineTree machine(kTwoNodes);
  const Plan plan = best("memory_mib: 512\ncpu_count: 18\nrequired: false\n", machine);
  EXPECT_EQ(plan.node, 1U);
  EXPECT_EQ(plan.cpus.size(), 16U);
  EXPECT_EQ(plan.missing_cpus, 2U);
}

TEST(Plan, ChecksCpusThatAreNamed) {
  const MachineTree machine(kTwoNodes);
  EXPECT_EQ(best("memory_mib: 512\ncpu_pool: 25,9\n", machine).cpus, (Ids{9, 25}));
  EXPECT_EQ(best("memory_mib: 512\ncpu_pool: 25,9\n", machine).node, 1U);
  machine.take_offline({2});
  const struct {
    const char* pool;
    const char* fault;
  } faults[] = {
      {"99", "cpu_pool names CPU 99, which is not one of this machine"},
      {"2,18", "cpu_pool names CPU 2, which is offline"},
      {"1,17,9,25",
       "cpu_pool names CPU 1 of NUMA node 0 and CPU 9 of node 1, but the driver takes the CPUs of one node only"},
      {"1", "cpu_pool names CPU 1 without CPU 17 of the same core; enclaves own whole cores"},
      {"16", "cpu_pool names CPU 16, which shares its core with CPU 0, the one that this machine must keep"},
  };
  for (const auto& one : faults)
    EXPECT_EQ(fault(std::string("memory_mib: 512\ncpu_pool: ") + one.pool + "\n", machine), one.fault);
  EXPECT_EQ(fault("memory_mib: 512\ncpu_pool: 9,25\nnuma_node: 0\n", machine),
            "the CPUs of cpu_pool are on NUMA node 1, but numa_node is 0");
}

TEST(Plan, TakesTheLargestPagesThatWasteNothing) {
  const MachineTree machine({});
  for (const auto& [mib, pages] : {std::pair<int, const char*>{512, "256x2"},
                                   {1024, "1x1024"},
                                   {1536, "1x1024 256x2"},
                                   {3070, "2x1024 511x2"},
                                   {3071, "3x1024"},
                                   {1, "1x2"},
                                   {1025, "1x1024 1x2"}}) {
    EXPECT_EQ(pages_of(best("cpu_count: 1\nmemory_mib: " + std::to_string(mib) + "\n", machine)), pages) << mib;
  }
  const MachineTree arm({.page_kib = {64, 2048, 32768, 1048576}});
  EXPECT_EQ(pages_of(best("cpu_count: 1\nmemory_mib: 1100\n", arm)), "1x1024 2x32 6x2");
}

TEST(Plan, GivesEachPoolPagesOfItsOwn) {
  const MachineTree machine(kTwoNodes);
  const Plan plan = best(
      "pools:\n"
      "- {memory_mib: 1536, cpu_count: 2}\n"
      "- {memory_mib: 512, cpu_pool: \"3,19\"}\n"
      "- {pages: {2M: 3, 1G: 1}, cpu_count: 2}\n",
      machine);
  EXPECT_EQ(plan.cpus, (Ids{1, 2, 3, 17, 18, 19}));
  EXPECT_EQ(pages_of(plan), "2x1024 515x2");
  EXPECT_EQ(plan.pages[0].fixed, 1U);
  EXPECT_EQ(plan.pages[1].fixed, 3U);
  EXPECT_EQ(plan.memory_bytes(), 2 * kGiB + 1030 * kMiB);
}

TEST(Plan, NamesTheSizesOfPagesThatThereAre) {
  const MachineTree machine({.page_kib = {2048}});
  EXPECT_EQ(fault("cpu_count: 1\npages: {1G: 1}\n", machine),
            "enclaves cannot use huge pages of 1G on this machine, whose sizes are: 2M");
  const MachineTree none({.page_kib = {}});
  EXPECT_EQ(fault("cpu_count: 1\nmemory_mib: 1\n", none),
            "enclaves need huge pages of 2M or a multiple of it; this machine's sizes are: none");
}

TEST(Plan, IsNotForMoreMemoryThanANodeHas) {
  const MachineTree machine(kTwoNodes);
  for (const unsigned node : {0U, 1U}) {
    const std::string name = "Node " + std::to_string(node);
    machine.write(machine.files().memory(node), name + " MemTotal:       " + (node == 0 ? "1048576" : "4194304") +
                                                    " kB\n" + name + " MemFree: 1 kB\n");
  }
  EXPECT_EQ(best("cpu_count: 2\nmemory_mib: 1024\n", machine).node, 0U);
  EXPECT_EQ(best("cpu_count: 2\nmemory_mib: 1025\n", machine).node, 1U);
  EXPECT_EQ(fault("cpu_count: 2\nmemory_mib: 4097\n", machine),
            "NUMA node 0 has 1024 MiB of memory in all, and 4098 MiB are asked for; "
            "NUMA node 1 has 4096 MiB of memory in all, and 4098 MiB are asked for");
}

TEST(Plan, IsForOneNode) {
  const MachineTree machine(kTwoNodes);
  EXPECT_EQ(
      fault("pools:\n- {memory_mib: 1, cpu_count: 2, numa_node: 0}\n- {memory_mib: 1, cpu_count: 2, numa_node: 1}\n",
            machine),
      "the pools are on the NUMA nodes 0 and 1, but the driver takes the CPUs of one node only");
}

}  // namespace
}  // namespace nitro::allocator
