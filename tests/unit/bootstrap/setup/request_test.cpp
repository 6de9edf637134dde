// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/setup/request.h"

#include <gtest/gtest.h>

#include "temp_folder.h"

namespace nitro::setup {
namespace {

using Ids = std::vector<std::uint32_t>;

TEST(SetupRequest, OfMemoryAloneIsForTheCpusThatAreSetAside) {
  const allocator::Topology now{.cpus = {}, .nodes = {}, .cpu_pool = Ids{2, 6}};
  const auto config = request_of({.memory_mib = 512, .cpus = {}}, now);
  ASSERT_OK(config);
  ASSERT_EQ(config->pools.size(), 1U);
  EXPECT_EQ(config->pools[0].cpus, (Ids{2, 6}));
  EXPECT_EQ(config->pools[0].memory_bytes, 512U << 20);
  EXPECT_TRUE(config->wants_memory());
  EXPECT_TRUE(config->required);
}

TEST(SetupRequest, OfMemoryAloneNeedsCpus) {
  const allocator::Topology none{.cpus = {}, .nodes = {}, .cpu_pool = Ids{}};
  EXPECT_NE(request_of({.memory_mib = 512, .cpus = {}}, none).error().message().find("no CPUs are set aside"),
            std::string::npos);
  const allocator::Topology no_driver{.cpus = {}, .nodes = {}, .cpu_pool = std::nullopt};
  EXPECT_NE(request_of({.memory_mib = 512, .cpus = {}}, no_driver).error().message().find("is not loaded"),
            std::string::npos);
}

TEST(SetupRequest, OfCpusLeavesMemoryAlone) {
  const allocator::Topology now{.cpus = {}, .nodes = {}, .cpu_pool = Ids{2, 6}};
  for (const Resources& wanted :
       {Resources{.memory_mib = {}, .cpus = {3, 7}}, {.memory_mib = {}, .cpus = {}, .cpu_count = 2}}) {
    const auto config = request_of(wanted, now);
    ASSERT_OK(config);
    EXPECT_FALSE(config->wants_memory());
    EXPECT_EQ(config->pools[0].cpus, wanted.cpus);
    EXPECT_EQ(config->pools[0].cpu_count, wanted.cpu_count);
  }
}

}  // namespace
}  // namespace nitro::setup
