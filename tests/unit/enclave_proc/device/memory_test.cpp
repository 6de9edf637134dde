// SPDX-License-Identifier: Apache-2.0
// The memory of an enclave, over the stand-in's huge pages.
#include "enclave_proc/device/memory.h"

#include <fcntl.h>

#include <algorithm>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "tests/unit/enclave_proc/device/standin.h"

namespace nitro::proc {
namespace {

using testing::go_on;
using testing::Standin;

std::vector<std::uint64_t> sizes_in_mib(const EnclaveMemory& memory) {
  std::vector<std::uint64_t> sizes;
  for (const Mapping& region : memory.regions()) sizes.push_back(region.bytes().size() / kMiB);
  return sizes;
}

/// What the pages `free_1g`, `free_2m` make of `wanted`; empty when it fails.
struct Case {
  const char* free_1g;
  const char* free_2m;
  std::uint64_t wanted_mib;
  std::uint64_t got_mib;      // 0: there is too little
  std::size_t large_regions;  // of 1 GiB
};

TEST(EnclaveMemory, TakesTheFewestPagesAndWastesTheLeast) {
  const std::vector<Case> cases = {
      {"0", "1024", 64, 64, 0},
      {"0", "1024", 257, 258, 0},
      {"2", "0", 1024, 1024, 1},
      {"2", "1024", 1024, 1024, 1},
      {"2", "1024", 100, 100, 0},
      {"1", "512", 1536, 1536, 1},
      {"1", "0", 100, 1024, 1},
      // Eleven small pages are not enough: the large one takes it all, and the small ones go back.
      {"1", "11", 100, 1024, 1},
      {"2", "100", 1300, 2048, 2},
      {"1", "200", 1300, 1300, 1},
      // What is less than any page is taken from the smallest.
      {"2", "100", 1025, 1026, 1},
      {"0", "10", 100, 0, 0},
      {"1", "10", 2000, 0, 0},
      {"0", "0", 64, 0, 0},
      {"16", "1024", 16384, 16384, 16},
  };
  for (const Case& row : cases) {
    const Standin standin({{"NITRO_DEVICE_PAGES_1G", row.free_1g}, {"NITRO_DEVICE_PAGES_2M", row.free_2m}});
    const std::string name =
        std::string(row.free_1g) + "x1G " + row.free_2m + "x2M for " + std::to_string(row.wanted_mib);
    const auto memory = EnclaveMemory::allocate(MemorySize::from_mib(row.wanted_mib), {}, go_on);
    if (row.got_mib == 0) {
      ASSERT_FALSE(memory) << name;
      EXPECT_EQ(memory.error().code(), ErrorCode::kInsufficientMemoryAvailable) << name;
      EXPECT_EQ(nitro_device_free_pages(1024), std::stoull(row.free_1g)) << name;
      EXPECT_EQ(nitro_device_free_pages(2), std::stoull(row.free_2m)) << name;
      continue;
    }
    ASSERT_OK(memory);
    EXPECT_EQ(memory->size().mib(), row.got_mib) << name;
    const auto sizes = sizes_in_mib(*memory);
    EXPECT_EQ(std::count(sizes.begin(), sizes.end(), 1024), static_cast<std::ptrdiff_t>(row.large_regions)) << name;
    EXPECT_TRUE(std::is_sorted(sizes.rbegin(), sizes.rend())) << name;
    const std::uint64_t small = row.got_mib - 1024 * row.large_regions;
    EXPECT_EQ(nitro_device_free_pages(2), std::stoull(row.free_2m) - small / 2) << name;
  }
}

TEST(EnclaveMemory, GivesItsPagesBack) {
  const Standin standin;
  {
    const auto memory = EnclaveMemory::allocate(MemorySize::from_mib(64), {}, go_on);
    ASSERT_OK(memory);
    EXPECT_EQ(nitro_device_free_pages(2), 992U);
  }
  EXPECT_EQ(nitro_device_free_pages(2), 1024U);
}

TEST(EnclaveMemory, TriesOnlyTheSizeThatWasAskedFor) {
  const Standin standin({{"NITRO_DEVICE_PAGES_1G", "1"}, {"NITRO_DEVICE_PAGES_2M", "1024"}});
  {
    const auto memory = EnclaveMemory::allocate(MemorySize::from_mib(1024), {.size = MemorySize::from_mib(2)}, go_on);
    ASSERT_OK(memory);
    EXPECT_EQ(memory->regions().size(), 512U);
  }
  for (const std::string& line : standin.trace()) EXPECT_EQ(line, "MMAP huge page=2M len=2M");
  {
    const auto memory = EnclaveMemory::allocate(MemorySize::from_mib(64), {.size = MemorySize::from_mib(1024)}, go_on);
    ASSERT_OK(memory);
    EXPECT_EQ(memory->size().mib(), 1024U);
  }
  const auto too_much =
      EnclaveMemory::allocate(MemorySize::from_mib(1025), {.size = MemorySize::from_mib(1024)}, go_on);
  ASSERT_FALSE(too_much);
  EXPECT_EQ(too_much.error().message(),
            "1025 MiB were requested, but the free huge pages of 1024 MiB of this machine amount to 1024 MiB");
}

TEST(EnclaveMemory, IsFoundAtOnceWhenItHasToBeOfOneNode) {
  // Node 0 is the one that every machine has.
  const Standin standin({{"NITRO_DEVICE_PAGES_2M", "40"}});
  int asked = 0;
  const EnclaveMemory::GoOn count = [&asked]() -> Result<void> {
    if (++asked > 50) return fail(ErrorCode::kEnclaveBoot, "enough");
    return {};
  };
  {
    const auto memory = EnclaveMemory::allocate(MemorySize::from_mib(64), {.numa_node = 0}, count);
    ASSERT_OK(memory);
    EXPECT_EQ(memory->size().mib(), 64U);
    EXPECT_GE(asked, 32);
  }
  asked = 0;
  const auto too_much = EnclaveMemory::allocate(MemorySize::from_mib(81), {.numa_node = 0}, go_on);
  ASSERT_FALSE(too_much);
  EXPECT_EQ(too_much.error().message(),
            "81 MiB were requested, but the free huge pages of NUMA node 0, that of the pool's CPUs, amount to 80 MiB");
  asked = 30;
  const auto ended = EnclaveMemory::allocate(MemorySize::from_mib(64), {.numa_node = 0}, count);
  ASSERT_FALSE(ended);
  EXPECT_EQ(ended.error().message(), "enough");
  EXPECT_EQ(nitro_device_free_pages(2), 40U);
}

TEST(EnclaveMemory, RefusesPageSizesThatDoNotExist) {
  const auto memory = EnclaveMemory::allocate(MemorySize::from_mib(64), {.size = MemorySize::from_mib(4)}, go_on);
  ASSERT_FALSE(memory);
  EXPECT_EQ(memory.error().code(), ErrorCode::kNoSuchHugepageFlag);
}

/// A file of `size` bytes, each telling where it is.
Fd make_image(const std::string& path, std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>(1 + i % 251);
  testing::write_file(path, text);
  return open_file(path, O_RDONLY).value();
}

/// The memory as the enclave sees it: the regions one after the other.
std::string contents(const EnclaveMemory& memory, std::uint64_t from, std::uint64_t size) {
  std::string text;
  std::uint64_t start = 0;
  for (const Mapping& region : memory.regions()) {
    const std::uint64_t end = start + region.bytes().size();
    const std::uint64_t first = std::max(from, start);
    const std::uint64_t last = std::min(from + size, end);
    if (first < last) text += as_text(region.bytes().subspan(first - start, last - first));
    start = end;
  }
  return text;
}

TEST(EnclaveMemory, HoldsTheImageAtItsPlaceAcrossRegions) {
  for (const std::size_t size : {std::size_t{1}, std::size_t{4096}, std::size_t{2 * kMiB}, std::size_t{2 * kMiB + 1},
                                 std::size_t{5 * kMiB + 17}}) {
    const Standin standin;
    auto memory = EnclaveMemory::allocate(MemorySize::from_mib(64), {}, go_on).value();
    const Fd image = make_image(standin / "image", size);
    for (const std::uint64_t offset : {std::uint64_t{0}, 8 * kMiB, 8 * kMiB + 4096, 64 * kMiB - size}) {
      ASSERT_OK(memory.load_image(image.get(), size, offset, go_on));
      EXPECT_TRUE(contents(memory, offset, size) == testing::read_file(standin / "image")) << size << " at " << offset;
    }
  }
}

TEST(EnclaveMemory, LeavesTheRestOfItUntouched) {
  const Standin standin;
  auto memory = EnclaveMemory::allocate(MemorySize::from_mib(64), {}, go_on).value();
  const Fd image = make_image(standin / "image", 3 * kMiB);
  ASSERT_OK(memory.load_image(image.get(), 3 * kMiB, 8 * kMiB, go_on));
  EXPECT_EQ(contents(memory, 0, 8 * kMiB).find_first_not_of('\0'), std::string::npos);
  EXPECT_EQ(contents(memory, 11 * kMiB, 53 * kMiB).find_first_not_of('\0'), std::string::npos);
}

TEST(EnclaveMemory, AsksBeforeEachPieceOfTheImage) {
  constexpr std::uint64_t kImageBytes = 2 * EnclaveMemory::kPieceBytes + 1;
  const Standin standin({{"NITRO_DEVICE_PAGES_1G", "1"}});
  auto memory = EnclaveMemory::allocate(MemorySize::from_mib(1024), {}, go_on).value();
  const Fd image = make_image(standin / "image", kImageBytes);
  int asked = 0;
  ASSERT_OK(memory.load_image(image.get(), kImageBytes, 0, [&asked]() -> Result<void> {
    ++asked;
    return {};
  }));
  EXPECT_EQ(asked, 3);
  EXPECT_TRUE(contents(memory, 0, kImageBytes) == testing::read_file(standin / "image"));
}

TEST(EnclaveMemory, EndsTheCopyWhenItIsNotToGoOn) {
  const Standin standin;
  auto memory = EnclaveMemory::allocate(MemorySize::from_mib(64), {}, go_on).value();
  const Fd image = make_image(standin / "image", 5 * kMiB);
  int pieces = 2;
  const auto loaded = memory.load_image(image.get(), 5 * kMiB, 0, [&pieces]() -> Result<void> {
    if (pieces-- > 0) return {};
    return fail(ErrorCode::kEnclaveBoot, "enough");
  });
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().message(), "enough");
  EXPECT_EQ(contents(memory, 4 * kMiB, kMiB).find_first_not_of('\0'), std::string::npos);
}

TEST(EnclaveMemory, RefusesAnImageThatDoesNotFit) {
  const Standin standin;
  auto memory = EnclaveMemory::allocate(MemorySize::from_mib(64), {}, go_on).value();
  const Fd image = make_image(standin / "image", 10);
  const std::vector<std::pair<std::uint64_t, std::uint64_t>> cases = {
      {10, 64 * kMiB - 9}, {64 * kMiB, 1}, {10, ~std::uint64_t{0}}, {~std::uint64_t{0}, 8 * kMiB}};
  for (const auto& [size, offset] : cases) {
    const auto loaded = memory.load_image(image.get(), size, offset, go_on);
    ASSERT_FALSE(loaded) << size << " at " << offset;
    EXPECT_EQ(loaded.error().code(), ErrorCode::kMemoryOverflow);
  }
}

TEST(EnclaveMemory, RefusesAnImageThatHasBecomeShorter) {
  const Standin standin;
  auto memory = EnclaveMemory::allocate(MemorySize::from_mib(64), {}, go_on).value();
  const Fd image = make_image(standin / "image", 1000);
  const auto loaded = memory.load_image(image.get(), 1001, 0, go_on);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code(), ErrorCode::kEifParsing);
}

}  // namespace
}  // namespace nitro::proc
