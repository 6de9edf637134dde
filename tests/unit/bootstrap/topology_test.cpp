// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/allocator/topology.h"

#include <gtest/gtest.h>

#include "machine_tree.h"
#include "src/base/memory_size.h"

namespace nitro::allocator {
namespace {

using testing::MachineTree;
using Ids = std::vector<std::uint32_t>;

TEST(Topology, HasCpusCoresNodesAndPages) {
  const MachineTree machine({.nodes = 2, .cores_per_node = 8, .threads = 2});
  machine.set_pages(1, 2048, 10, 3);
  const auto topology = Topology::read(machine.files());
  ASSERT_OK(topology);
  EXPECT_EQ(topology->cpus.size(), 32U);
  const Cpu* cpu = topology->cpu(24);
  ASSERT_NE(cpu, nullptr);
  EXPECT_EQ(cpu->node, 1U);
  EXPECT_TRUE(cpu->online);
  EXPECT_EQ(cpu->core, (Ids{8, 24}));
  ASSERT_EQ(topology->nodes.size(), 2U);
  const auto& pages = topology->node(1)->pages;
  ASSERT_EQ(pages.size(), 2U);
  EXPECT_EQ(pages[0].size_bytes, kGiB);
  EXPECT_EQ(pages[1].size_bytes, 2 * kMiB);
  EXPECT_EQ(pages[1].total, 10U);
  EXPECT_EQ(pages[1].used(), 7U);
  EXPECT_EQ(topology->cpu_pool, Ids{});
  EXPECT_EQ(topology->cpu(32), nullptr);
  EXPECT_EQ(topology->node(2), nullptr);
}

TEST(Topology, KnowsTheNodeOfACpuThatIsOffline) {
  const MachineTree machine({.nodes = 2, .cores_per_node = 2, .threads = 1});
  machine.take_offline({3});
  machine.write(machine.files().cpu_pool(), "3\n");
  const auto topology = Topology::read(machine.files());
  ASSERT_OK(topology);
  EXPECT_FALSE(topology->cpu(3)->online);
  EXPECT_EQ(topology->cpu(3)->node, 1U);
  EXPECT_TRUE(topology->cpu(3)->core.empty());
  EXPECT_EQ(topology->cpu_pool, Ids{3});
}

TEST(Topology, IsOneNodeWhereTheKernelKnowsNone) {
  const MachineTree machine({.has_nodes = false, .has_driver = false});
  machine.set_pages(0, 2048, 4, 4);
  const auto topology = Topology::read(machine.files());
  ASSERT_OK(topology);
  ASSERT_EQ(topology->nodes.size(), 1U);
  EXPECT_EQ(topology->nodes[0].pages.at(1).total, 4U);
  EXPECT_EQ(topology->cpu(3)->node, 0U);
  EXPECT_FALSE(topology->cpu_pool);
}

TEST(Topology, ThatCannotBeReadIsNamed) {
  const MachineTree machine({});
  machine.write(machine.files().online_cpus(), "none\n");
  const auto topology = Topology::read(machine.files());
  ASSERT_FALSE(topology);
  EXPECT_NE(topology.error().message().find("/sys/devices/system/cpu/online"), std::string::npos);
}

TEST(Topology, OfThisMachineIsRead) {
  const auto topology = Topology::read({});
  ASSERT_OK(topology);
  ASSERT_NE(topology->cpu(0), nullptr);
  EXPECT_FALSE(topology->nodes.empty());
}

}  // namespace
}  // namespace nitro::allocator
