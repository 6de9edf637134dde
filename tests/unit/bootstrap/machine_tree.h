// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "src/base/cpu_list.h"
#include "src/base/kernel_files.h"
#include "temp_folder.h"

namespace nitro::testing {

/// A made-up machine: a folder with the files in which the kernel describes one.
class MachineTree {
 public:
  struct Shape {
    unsigned nodes = 1;
    unsigned cores_per_node = 4;
    unsigned threads = 1;
    std::vector<std::uint64_t> page_kib = {2048, 1048576};
    bool has_nodes = true;  ///< whether the kernel knows NUMA nodes
    bool has_driver = true;
  };

  explicit MachineTree(const Shape& shape) : shape_(shape) {
    const unsigned cores = shape.nodes * shape.cores_per_node;
    const unsigned cpus = cores * shape.threads;
    for (std::uint32_t id = 0; id < cpus; ++id) {
      // As on x86: the second threads come after all first ones.
      const unsigned node = id % cores / shape.cores_per_node;
      if (shape.has_nodes) write(cpu(id) + "/node" + std::to_string(node) + "/there", "");
    }
    write(files().present_cpus(), "0-" + std::to_string(cpus - 1) + "\n");
    bring_online();
    if (shape.has_nodes) write(files().online_nodes(), shape.nodes > 1 ? "0-" + std::to_string(shape.nodes - 1) : "0");
    for (unsigned node = 0; node < shape.nodes; ++node) {
      for (const std::uint64_t size : shape.page_kib) set_pages(node, size, 0, 0);
    }
    if (shape.has_driver) write(files().cpu_pool(), "\n");
  }

  [[nodiscard]] KernelFiles files() const { return {.root = folder_.path()}; }

  void set_pages(unsigned node, std::uint64_t kib, std::uint64_t total, std::uint64_t free) const {
    const std::string folder = (shape_.has_nodes ? files().huge_pages(node) : files().huge_pages()) + "/hugepages-" +
                               std::to_string(kib) + "kB";
    write(folder + "/nr_hugepages", std::to_string(total) + "\n");
    write(folder + "/free_hugepages", std::to_string(free) + "\n");
  }
  /// All CPUs.
  void bring_online() const {
    const unsigned cores = shape_.nodes * shape_.cores_per_node;
    const unsigned cpus = cores * shape_.threads;
    for (std::uint32_t id = 0; id < cpus; ++id) {
      if (std::filesystem::exists(files().siblings(id))) continue;
      std::vector<std::uint32_t> siblings;
      for (unsigned thread = 0; thread < shape_.threads; ++thread) siblings.push_back(id % cores + thread * cores);
      write(files().siblings(id), cpu_list_of(siblings) + "\n");
    }
    write(files().online_cpus(), "0-" + std::to_string(cpus - 1) + "\n");
  }
  /// As when the driver has taken it, or somebody else.
  void take_offline(const std::vector<std::uint32_t>& ids) const {
    auto online = parse_cpu_list(read_file(files().online_cpus())).value();
    for (const std::uint32_t id : ids) {
      std::erase(online, id);
      std::filesystem::remove_all(cpu(id) + "/topology");
    }
    write(files().online_cpus(), cpu_list_of(online) + "\n");
  }
  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    write_file(path, text);
  }

 private:
  [[nodiscard]] std::string cpu(std::uint32_t id) const { return files().cpu(id); }

  Shape shape_;
  TempFolder folder_;
};

}  // namespace nitro::testing
