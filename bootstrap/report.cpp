// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/report.h"

#include <fmt/format.h>

#include "src/base/bytes.h"
#include "src/base/cpu_list.h"
#include "src/base/memory_size.h"

namespace nitro::allocator {
namespace {

using nlohmann::ordered_json;

std::vector<std::uint32_t> pool_on(unsigned node, const Topology& topology) {
  std::vector<std::uint32_t> cpus;
  for (const std::uint32_t id : topology.cpu_pool.value_or(std::vector<std::uint32_t>{})) {
    const Cpu* cpu = topology.cpu(id);
    if (cpu != nullptr && cpu->node == node) cpus.push_back(id);
  }
  return cpus;
}

std::string cpus_text(const std::vector<std::uint32_t>& cpus) {
  return cpus.empty() ? "no CPUs" : fmt::format("CPU{} {}", cpus.size() > 1 ? "s" : "", cpu_list_of(cpus));
}

std::string text_of(const PoolRequest& pool) {
  std::string text = pool.cpus.empty() ? fmt::format("{} CPUs", pool.cpu_count) : cpus_text(pool.cpus);
  if (pool.numa_node) text += fmt::format(" of NUMA node {}", *pool.numa_node);
  return text + ", " + (pool.pages.empty() ? fmt::format("{} MiB", pool.memory_bytes / kMiB) : text_of(pool.pages));
}

ordered_json json_of(const PoolRequest& pool) {
  ordered_json json;
  if (pool.pages.empty()) {
    json["memory_mib"] = pool.memory_bytes / kMiB;
  } else {
    for (const Pages& pages : pool.pages) json["pages"][page_size_name(pages.size_bytes)] = pages.count;
  }
  if (pool.cpus.empty()) {
    json["cpu_count"] = pool.cpu_count;
  } else {
    json["cpu_pool"] = cpu_list_of(pool.cpus);
  }
  if (pool.numa_node) json["numa_node"] = *pool.numa_node;
  return json;
}

}  // namespace

std::string text_of(const std::vector<Pages>& pages) {
  if (pages.empty()) return "no huge pages";
  std::uint64_t bytes = 0;
  std::string text;
  for (const Pages& size : pages) {
    bytes += size.count * size.size_bytes;
    text += text.empty() ? fmt::format("{} huge page{} of ", size.count, size.count == 1 ? "" : "s")
                         : fmt::format(" and {} of ", size.count);
    text += page_size_name(size.size_bytes);
  }
  return fmt::format("{}, {} MiB", text, bytes / kMiB);
}

std::string text_of(const Plan& plan) {
  std::vector<Pages> pages;
  for (const PlannedPages& size : plan.pages) {
    if (size.count() > 0) pages.push_back({.size_bytes = size.size_bytes, .count = size.count()});
  }
  return fmt::format("NUMA node {}: {}; {}", plan.node, cpus_text(plan.cpus), text_of(pages));
}

std::string text_of(const Reservation& reservation) {
  return fmt::format("NUMA node {}: {}; {}", reservation.node, cpus_text(reservation.cpus), text_of(reservation.pages));
}

std::string text_of(const Status& status) {
  std::string text;
  if (status.config) {
    for (const PoolRequest& pool : status.config->pools) text += fmt::format("Asked for: {}\n", text_of(pool));
  } else {
    text += fmt::format("Asked for: nothing that can be read: {}\n", status.config.error().message());
  }
  if (!status.topology.cpu_pool) text += "The driver nitro_enclaves is not loaded.\n";
  for (const Node& node : status.topology.nodes) {
    text += fmt::format("NUMA node {}: {} for enclaves\n", node.id, cpus_text(pool_on(node.id, status.topology)));
    for (const HugePages& pages : node.pages) {
      text += fmt::format("  huge pages of {}: {}, {} of them in use\n", page_size_name(pages.size_bytes), pages.total,
                          pages.used());
    }
  }
  for (const std::string& name : status.enclaves) text += fmt::format("Running: {}\n", quote(name));
  return text;
}

ordered_json json_of(const Status& status) {
  ordered_json json;
  if (status.config) {
    for (const PoolRequest& pool : status.config->pools) json["Asked"].push_back(json_of(pool));
  } else {
    json["Error"] = status.config.error().message();
  }
  json["Driver"] = status.topology.cpu_pool.has_value();
  json["Nodes"] = ordered_json::array();
  for (const Node& node : status.topology.nodes) {
    ordered_json pages = ordered_json::array();
    for (const HugePages& size : node.pages) {
      pages.push_back({{"Size", page_size_name(size.size_bytes)},
                       {"SizeBytes", size.size_bytes},
                       {"Total", size.total},
                       {"InUse", size.used()}});
    }
    json["Nodes"].push_back(
        {{"Node", node.id}, {"CPUIDs", pool_on(node.id, status.topology)}, {"HugePages", std::move(pages)}});
  }
  json["Enclaves"] = status.enclaves;
  return json;
}

}  // namespace nitro::allocator
