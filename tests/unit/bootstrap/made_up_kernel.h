// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cerrno>
#include <map>
#include <string>
#include <vector>

#include "bootstrap/allocator/kernel.h"
#include "machine_tree.h"
#include "src/base/memory_size.h"

namespace nitro::testing {

/// A kernel that works on a made-up machine, has so many pages of each size, and takes CPUs offline as the driver does.
class MadeUpKernel : public allocator::Kernel {
 public:
  explicit MadeUpKernel(const MachineTree& machine) : Kernel(machine.files()), machine_(machine) {}

  Result<void> set_cpu_pool(const std::vector<std::uint32_t>& cpus) override {
    if (enclaves_run) return fail_errno(ErrorCode::kCpu, "writing", EPERM);
    if ((refuses_cpus && !cpus.empty()) || (!refused.empty() && cpus == refused))
      return fail_errno(ErrorCode::kCpu, "writing", EINVAL);
    NITRO_CHECK(Kernel::set_cpu_pool(cpus));
    machine_.bring_online();
    machine_.take_offline(cpus);
    ++changes;
    return {};
  }
  Result<std::uint64_t> set_pages(const allocator::HugePages& pages, std::uint64_t total) override {
    const auto most = limits.find(pages.folder.substr(pages.folder.find("/sys")));
    std::uint64_t got = most != limits.end() ? std::min(most->second, total) : total;
    got = std::max(got, used);
    NITRO_TRY(const std::uint64_t set, Kernel::set_pages(pages, got));
    write_file(pages.folder + "/free_hugepages", std::to_string(set - std::min(set, used)));
    ++changes;
    return set;
  }
  void compact_memory(unsigned) override {
    if (++compactions >= compactions_that_help) limits.clear();
  }

  static std::string folder(unsigned node, std::uint64_t kib) {
    return KernelFiles{}.huge_pages(node) + "/hugepages-" + std::to_string(kib) + "kB";
  }

  std::map<std::string, std::uint64_t> limits;  // of pages, by folder
  std::uint64_t used = 0;                       // pages of each size that others use
  bool enclaves_run = false;
  bool refuses_cpus = false;
  std::vector<std::uint32_t> refused;  // only these
  int compactions = 0;
  int compactions_that_help = 1000;
  int changes = 0;

 private:
  const MachineTree& machine_;
};

/// The settings of a machine, as "pool 1-2 pages 1G 0 2M 256 | 1G 0 2M 0".
inline std::string state_of(const allocator::Kernel& kernel) {
  const auto topology = kernel.topology();
  EXPECT_OK(topology);
  std::string text = "pool " + cpu_list_of(*topology->cpu_pool) + " pages";
  for (const allocator::Node& node : topology->nodes) {
    if (node.id > 0) text += " |";
    for (const allocator::HugePages& pages : node.pages)
      text += (pages.size_bytes == kGiB ? " 1G " : " 2M ") + std::to_string(pages.total);
  }
  return text;
}

}  // namespace nitro::testing
