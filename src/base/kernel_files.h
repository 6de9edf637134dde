// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

namespace nitro {

/// Paths of the kernel's files for CPUs, NUMA nodes, huge pages and the driver, and of what tells why there is no
/// driver. `root` is prepended to every path: empty on a real machine, a made-up tree in tests.
struct KernelFiles {
  std::string root{};

  [[nodiscard]] std::string device() const { return root + "/dev/nitro_enclaves"; }
  /// How many descriptors of the device and of enclaves are open.
  [[nodiscard]] std::string driver_users() const { return driver() + "/refcnt"; }
  /// The CPUs set aside for enclaves, such as "1-3,5"; writing a list takes them from this machine (ne_misc_dev.c,
  /// parameter ne_cpus).
  [[nodiscard]] std::string cpu_pool() const { return driver() + "/parameters/ne_cpus"; }
  /// Exists while the driver is loaded, or if it is a part of the kernel.
  [[nodiscard]] std::string driver() const { return root + "/sys/module/nitro_enclaves"; }
  /// Exists while the driver has a device, whether /dev has a node for it or not.
  [[nodiscard]] std::string device_class() const { return root + "/sys/class/misc/nitro_enclaves"; }
  /// A folder for each PCI device, with the files "vendor" and "device".
  [[nodiscard]] std::string pci_devices() const { return root + "/sys/bus/pci/devices"; }
  /// The maker of this machine according to its firmware, such as "Amazon EC2".
  [[nodiscard]] std::string maker() const { return root + "/sys/class/dmi/id/sys_vendor"; }
  /// The release of the running kernel, such as "6.1.0-57-amd64".
  [[nodiscard]] std::string release() const { return root + "/proc/sys/kernel/osrelease"; }
  /// The modules of a kernel.
  [[nodiscard]] std::string modules(const std::string& release) const { return root + "/lib/modules/" + release; }
  /// Which distribution this is (os-release(5)).
  [[nodiscard]] std::string distribution() const { return root + "/etc/os-release"; }

  [[nodiscard]] std::string cpus() const { return root + "/sys/devices/system/cpu"; }
  [[nodiscard]] std::string present_cpus() const { return cpus() + "/present"; }
  [[nodiscard]] std::string online_cpus() const { return cpus() + "/online"; }
  /// A folder that contains a link "nodeN" to the CPU's NUMA node, whether the CPU is online or not.
  [[nodiscard]] std::string cpu(std::uint32_t id) const { return cpus() + "/cpu" + std::to_string(id); }
  /// The threads of the CPU's core, while it is online.
  [[nodiscard]] std::string siblings(std::uint32_t id) const { return cpu(id) + "/topology/thread_siblings_list"; }

  [[nodiscard]] std::string nodes() const { return root + "/sys/devices/system/node"; }
  /// The NUMA nodes of this machine, such as "0-1".
  [[nodiscard]] std::string online_nodes() const { return nodes() + "/online"; }
  [[nodiscard]] std::string node(unsigned id) const { return nodes() + "/node" + std::to_string(id); }
  /// Has a line "Node 0 MemTotal: 1024 kB".
  [[nodiscard]] std::string memory(unsigned id) const { return node(id) + "/meminfo"; }
  /// Writing to it compacts the node's memory.
  [[nodiscard]] std::string compact(unsigned id) const { return node(id) + "/compact"; }
  /// A folder for each size, "hugepages-2048kB".
  [[nodiscard]] std::string huge_pages(unsigned id) const { return node(id) + "/hugepages"; }
  /// The same for the whole machine, where the kernel knows no nodes.
  [[nodiscard]] std::string huge_pages() const { return root + "/sys/kernel/mm/hugepages"; }
};

}  // namespace nitro
