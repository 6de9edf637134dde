// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace nitro::allocator {

/// Paths of the kernel's files for CPUs, NUMA nodes, huge pages and the driver. `root` is prepended: empty on a real
/// machine, a made-up tree in tests.
struct Sysfs {
  std::string root{};

  /// The CPUs that belong to enclaves; writing a list takes them from this machine (ne_misc_dev.c, parameter ne_cpus).
  [[nodiscard]] std::string cpu_pool() const { return root + "/sys/module/nitro_enclaves/parameters/ne_cpus"; }

  [[nodiscard]] std::string cpus() const { return root + "/sys/devices/system/cpu"; }
  [[nodiscard]] std::string present_cpus() const { return cpus() + "/present"; }
  [[nodiscard]] std::string online_cpus() const { return cpus() + "/online"; }
  /// Contains a link "nodeN"; and a folder "topology" while the CPU is online.
  [[nodiscard]] std::string cpu(std::uint32_t id) const { return cpus() + "/cpu" + std::to_string(id); }
  [[nodiscard]] std::string siblings(std::uint32_t id) const { return cpu(id) + "/topology/thread_siblings_list"; }

  [[nodiscard]] std::string nodes() const { return root + "/sys/devices/system/node"; }
  [[nodiscard]] std::string online_nodes() const { return nodes() + "/online"; }
  /// Has a line "Node 0 MemTotal: 1024 kB".
  [[nodiscard]] std::string memory(unsigned node) const {
    return nodes() + "/node" + std::to_string(node) + "/meminfo";
  }
  /// Writing to it compacts the node's memory.
  [[nodiscard]] std::string compact(unsigned node) const {
    return nodes() + "/node" + std::to_string(node) + "/compact";
  }
  /// A folder for each size, "hugepages-2048kB".
  [[nodiscard]] std::string huge_pages(unsigned node) const {
    return nodes() + "/node" + std::to_string(node) + "/hugepages";
  }
  /// The same for the whole machine, where the kernel knows no nodes.
  [[nodiscard]] std::string huge_pages() const { return root + "/sys/kernel/mm/hugepages"; }
};

}  // namespace nitro::allocator
