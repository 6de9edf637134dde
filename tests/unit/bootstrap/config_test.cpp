// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/allocator/config.h"

#include <gtest/gtest.h>

#include "src/base/memory_size.h"
#include "temp_folder.h"

namespace nitro::allocator {
namespace {

AllocatorConfig config_of(const std::string& text) {
  auto config = parse_allocator_config(text, "a.yaml");
  EXPECT_OK(config);
  return config ? *config : AllocatorConfig{};
}

std::string fault_of(const std::string& text) {
  const auto config = parse_allocator_config(text, "a.yaml");
  return config ? "it is valid" : config.error().message();
}

TEST(AllocatorConfig, OfTheAwsToolIsOnePool) {
  const auto config = config_of(
      "---\n"
      "# Enclave configuration file.\n"
      "memory_mib: 512\n"
      "cpu_count: 2\n");
  ASSERT_EQ(config.pools.size(), 1U);
  EXPECT_EQ(config.pools[0].memory_bytes, 512 * kMiB);
  EXPECT_EQ(config.pools[0].cpu_count, 2U);
  EXPECT_TRUE(config.pools[0].cpus.empty());
  EXPECT_TRUE(config.required);
}

TEST(AllocatorConfig, NamesCpus) {
  using Ids = std::vector<std::uint32_t>;
  EXPECT_EQ(config_of("memory_mib: \"512\"\ncpu_pool: 2,3,6-9\n").pools.at(0).cpus, (Ids{2, 3, 6, 7, 8, 9}));
  EXPECT_EQ(config_of("memory_mib: 512\ncpu_pool: 3\n").pools.at(0).cpus, (Ids{3}));
}

TEST(AllocatorConfig, HasPoolsAndPages) {
  const auto config = config_of(
      "required: false\n"
      "pools:\n"
      "- {memory_mib: 1536, cpu_count: 2, numa_node: 1}\n"
      "- pages: {2M: 100, 1G: 1}\n"
      "  cpu_pool: 4,5\n");
  EXPECT_FALSE(config.required);
  ASSERT_EQ(config.pools.size(), 2U);
  EXPECT_EQ(config.pools[0].numa_node, 1U);
  ASSERT_EQ(config.pools[1].pages.size(), 2U);
  EXPECT_EQ(config.pools[1].pages[0].size_bytes, 2 * kMiB);
  EXPECT_EQ(config.pools[1].pages[0].count, 100U);
  EXPECT_EQ(config.pools[1].pages[1].size_bytes, kGiB);
}

TEST(AllocatorConfig, WithAFaultIsRefusedWithLineKeyAndForm) {
  const struct {
    const char* text;
    const char* fault;
  } faults[] = {
      {"memory: 1\n",
       "a.yaml:1: \"memory\": this key is not known here; known keys: memory_mib, pages, cpu_count, cpu_pool, "
       "numa_node, pools, required"},
      {"cpu_count: 2\nmemory_mib: 1G\n",
       "a.yaml:2: \"memory_mib\": must be an amount of memory in MiB, 1 or more, not \"1G\""},
      {"cpu_count: 2\nmemory_mib: 0\n",
       "a.yaml:2: \"memory_mib\": must be an amount of memory in MiB, 1 or more, not \"0\""},
      {"cpu_count: 2\nmemory_mib:\n", "a.yaml:2: \"memory_mib\": must be an amount of memory in MiB, 1 or more"},
      {"cpu_count: -2\n", "a.yaml:1: \"cpu_count\": must be a number of CPUs, 1 or more, not \"-2\""},
      {"cpu_count: [1]\n", "a.yaml:1: \"cpu_count\": must be a number of CPUs, 1 or more"},
      {"cpu_pool: 1-\n",
       "a.yaml:1: \"cpu_pool\": must be a list of CPUs like 2,3,6-9, each once and without CPU 0, not \"1-\""},
      {"cpu_pool: 0-3\n",
       "a.yaml:1: \"cpu_pool\": must be a list of CPUs like 2,3,6-9, each once and without CPU 0, not \"0-3\""},
      {"cpu_pool: 2,1-3\n",
       "a.yaml:1: \"cpu_pool\": must be a list of CPUs like 2,3,6-9, each once and without CPU 0, not \"2,1-3\""},
      {"numa_node: all\n", "a.yaml:1: \"numa_node\": must be a whole number from 0 to 1023, not \"all\""},
      {"required: maybe\n", "a.yaml:1: \"required\": must be true or false, not \"maybe\""},
      {"pages: {2: 1}\n", "a.yaml:1: \"2\": the key must be the size of a huge page, like 2M or 1G"},
      {"pages: {2M: few}\n", "a.yaml:1: \"2M\": must be a number of pages, 1 or more, not \"few\""},
      {"pages: {}\n", "a.yaml:1: \"pages\": must name a size and a number of pages: {2M: 100, 1G: 1}"},
      {"memory_mib: 1\nmemory_mib: 2\n", "a.yaml:2: \"memory_mib\": this key is here twice"},
      {"memory_mib: 1\n", "a.yaml:1: the CPUs are missing: cpu_count, or cpu_pool"},
      {"cpu_count: 1\n", "a.yaml:1: the memory is missing: memory_mib, or pages"},
      {"cpu_count: 1\ncpu_pool: 1\nmemory_mib: 1\n", "a.yaml:1: cpu_count and cpu_pool exclude each other"},
      {"cpu_count: 1\npages: {2M: 1}\nmemory_mib: 1\n", "a.yaml:1: memory_mib and pages exclude each other"},
      {"pools: []\n", "a.yaml:1: \"pools\": the list has no pool"},
      {"cpu_count: 1\npools:\n- {memory_mib: 1, cpu_count: 1}\n",
       "a.yaml:1: pools excludes these keys beside it: memory_mib, pages, cpu_count, cpu_pool, numa_node"},
      {"pools:\n- {memory_mib: 1, cpu_pool: 1}\n- {memory_mib: 1, cpu_pool: 1-2}\n",
       "a.yaml:3: \"pools\": CPU 1 is in another pool too"},
      {"pools:\n- {memory_mib: 1}\n", "a.yaml:2: \"pools\": the CPUs are missing: cpu_count, or cpu_pool"},
      {"- 1\n",
       "a.yaml:1: must be a mapping with the keys memory_mib, pages, cpu_count, cpu_pool, numa_node, pools, required"},
  };
  for (const auto& one : faults) EXPECT_EQ(fault_of(one.text), one.fault) << one.text;
  EXPECT_EQ(fault_of(""),
            "a.yaml: must be a mapping with the keys memory_mib, pages, cpu_count, cpu_pool, numa_node, pools, "
            "required");
}

TEST(AllocatorConfig, ThatIsNotThereIsNamed) {
  const testing::TempFolder folder;
  const auto config = load_allocator_config(folder / "allocator.yaml");
  ASSERT_FALSE(config);
  EXPECT_NE(config.error().message().find("allocator.yaml"), std::string::npos);
}

}  // namespace
}  // namespace nitro::allocator
