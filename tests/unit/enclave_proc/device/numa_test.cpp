// SPDX-License-Identifier: Apache-2.0
// Which node an enclave's memory has to be of, over made-up folders of the kernel. Pages of a node that has too few are
// looked for on a whole machine with two nodes (tests/integration/parent).
#include "enclave_proc/device/numa.h"

#include <sys/mman.h>

#include <algorithm>
#include <filesystem>

#include "src/base/mapping.h"
#include "temp_folder.h"

namespace nitro::proc {
namespace {

using testing::TempFolder;

/// A machine whose nodes are `online`, with CPUs 4 and 5 on these nodes.
class MadeUpKernel {
 public:
  explicit MadeUpKernel(const std::string& online, const std::string& cpu4 = "node1",
                        const std::string& cpu5 = "node1") {
    std::filesystem::create_directories(folder_ / "sys/devices/system/node");
    if (!online.empty()) testing::write_file(folder_ / "sys/devices/system/node/online", online + "\n");
    add_cpu(4, cpu4);
    add_cpu(5, cpu5);
  }
  [[nodiscard]] std::optional<unsigned> node_of(std::string_view pool) const {
    return numa_node_of(CpuPool::parse(pool).value(), KernelFiles{.root = folder_.path()});
  }

 private:
  void add_cpu(int id, const std::string& node) {
    const std::string path = folder_ / ("sys/devices/system/cpu/cpu" + std::to_string(id));
    std::filesystem::create_directories(path + "/topology");
    testing::write_file(path + "/online", "0\n");
    // As there: a link, whose target need not be there.
    if (!node.empty()) std::filesystem::create_symlink("../../node/" + node, path + "/" + node);
  }

  TempFolder folder_;
};

TEST(NumaNode, IsThatOfThePoolsCpus) {
  EXPECT_EQ(MadeUpKernel("0-1").node_of("4-5"), 1U);
  EXPECT_EQ(MadeUpKernel("0,2", "node2", "node2").node_of("4,5"), 2U);
  EXPECT_EQ(MadeUpKernel("0-1", "node0", "node0").node_of("5"), 0U);
  EXPECT_EQ(MadeUpKernel("0-1023", "node1023").node_of("4"), 1023U);
}

TEST(NumaNode, IsNoneWhereThereIsNoChoice) {
  EXPECT_EQ(MadeUpKernel("0", "node0", "node0").node_of("4-5"), std::nullopt);
  EXPECT_EQ(MadeUpKernel("").node_of("4-5"), std::nullopt);
  EXPECT_EQ(MadeUpKernel("0-1").node_of(""), std::nullopt);
}

TEST(NumaNode, IsNoneWhereTheKernelDoesNotTell) {
  EXPECT_EQ(MadeUpKernel("0-1").node_of("9"), std::nullopt);
  for (const char* name : {"", "node", "nodex", "node1x", "node-1", "node1024", "node99999999999", "nodes1"})
    EXPECT_EQ(MadeUpKernel("0-1", name).node_of("4"), std::nullopt) << name;
}

TEST(NumaNode, GivesAPageThatIsZero) {
  const auto page = Mapping::map(-1, 2 * kMiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS).value();
  EXPECT_TRUE(find_page_on(0, page.bytes()));
  const auto bytes = page.bytes();
  EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; }));
}

TEST(NumaNode, IsNotInsistedOnWhereItCannotBeChosen) {
  // A machine with so many nodes is not among those that run tests; the kernel refuses to choose it.
  const auto page = Mapping::map(-1, 2 * kMiB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS).value();
  EXPECT_TRUE(find_page_on(1023, page.bytes()));
}

}  // namespace
}  // namespace nitro::proc
