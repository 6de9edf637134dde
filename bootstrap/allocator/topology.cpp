// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/allocator/topology.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <string_view>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/cpu_list.h"
#include "src/base/memory_size.h"
#include "src/base/numa_node.h"
#include "src/base/number.h"

namespace nitro::allocator {
namespace {

/// A file of files is at most one page.
constexpr std::size_t kFileLimitBytes = 4096;

Result<std::vector<std::uint32_t>> read_list(const std::string& path) {
  NITRO_TRY(const std::string text, read_text_file(path, kFileLimitBytes));
  auto list = parse_cpu_list(text);
  if (!list) return fail_within("reading " + quote(path), std::move(list).error());
  std::sort(list->begin(), list->end());
  return list;
}

/// Like read_list(); nothing if there is no such file.
Result<std::optional<std::vector<std::uint32_t>>> read_list_if_there(const std::string& path) {
  auto list = read_list(path);
  if (list) return std::optional(std::move(*list));
  if (list.error().system_errno() == ENOENT) return std::optional<std::vector<std::uint32_t>>();
  return Failure(std::move(list).error());
}

Result<std::uint64_t> read_number(const std::string& path) {
  NITRO_TRY(const std::string text, read_text_file(path, kFileLimitBytes));
  const auto number = parse_number<std::uint64_t>(std::string_view(text).substr(0, text.find('\n')));
  if (!number) return fail(ErrorCode::kFileOperation, quote(path) + " does not hold a number");
  return *number;
}

/// The number in a name like "hugepages-2048kB".
std::optional<std::uint64_t> kib_in(std::string_view name) {
  constexpr std::string_view kPrefix = "hugepages-";
  constexpr std::string_view kSuffix = "kB";
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  return parse_number<std::uint64_t>(name.substr(0, name.size() - kSuffix.size()));
}

/// The names in a folder; none if it cannot be read.
std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    names.push_back(entry->path().filename());
  return names;
}

Result<Cpu> read_cpu(const KernelFiles& files, std::uint32_t id, bool online) {
  Cpu cpu{.id = id, .node = numa_node_of_cpu(id, files).value_or(0), .online = online, .core = {}};
  if (!online) return cpu;
  NITRO_TRY(auto core, read_list_if_there(files.siblings(id)));
  cpu.core = core ? std::move(*core) : std::vector{id};
  return cpu;
}

Result<std::vector<HugePages>> read_pages(const std::string& folder) {
  std::vector<HugePages> all;
  for (const std::string& name : names_in(folder)) {
    const auto kib = kib_in(name);
    if (!kib || *kib == 0 || *kib > UINT64_MAX / kKiB) continue;
    HugePages& pages = all.emplace_back();
    pages.size_bytes = *kib * kKiB;
    pages.folder = folder + "/" + name;
    NITRO_TRY(pages.total, read_page_count(pages.folder));
    NITRO_TRY(const std::uint64_t free, read_number(pages.folder + "/free_hugepages"));
    // They are read one after the other.
    pages.free = std::min(free, pages.total);
  }
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.size_bytes > b.size_bytes; });
  return all;
}

/// The number of the line "Node 0 MemTotal: 1024 kB".
std::optional<std::uint64_t> memory_in(const std::string& path) {
  const auto text = read_text_file(path, kFileLimitBytes);
  if (!text) return std::nullopt;
  constexpr std::string_view kKey = "MemTotal:";
  const std::size_t key = text->find(kKey);
  if (key == std::string::npos) return std::nullopt;
  const std::size_t begin = text->find_first_not_of(' ', key + kKey.size());
  const std::size_t end = text->find(' ', begin);
  if (begin == std::string::npos || end == std::string::npos) return std::nullopt;
  const auto kib = parse_number<std::uint64_t>(std::string_view(*text).substr(begin, end - begin));
  if (!kib || *kib > UINT64_MAX / kKiB) return std::nullopt;
  return *kib * kKiB;
}

}  // namespace

Result<Topology> Topology::read(const KernelFiles& files) {
  Topology topology;
  NITRO_TRY(topology.cpu_pool, read_list_if_there(files.cpu_pool()));
  NITRO_TRY(const auto present, read_list(files.present_cpus()));
  NITRO_TRY(const auto online, read_list(files.online_cpus()));
  for (const std::uint32_t id : present) {
    NITRO_TRY(Cpu cpu, read_cpu(files, id, std::binary_search(online.begin(), online.end(), id)));
    topology.cpus.push_back(std::move(cpu));
  }
  NITRO_TRY(const auto nodes, read_list_if_there(files.online_nodes()));
  if (!nodes) {
    NITRO_TRY(auto pages, read_pages(files.huge_pages()));
    topology.nodes.push_back({.id = 0, .pages = std::move(pages)});
    return topology;
  }
  for (const std::uint32_t id : *nodes) {
    NITRO_TRY(auto pages, read_pages(files.huge_pages(id)));
    topology.nodes.push_back(
        {.id = id, .pages = std::move(pages), .memory_bytes = memory_in(files.memory(id)).value_or(0)});
  }
  return topology;
}

Result<std::uint64_t> read_page_count(const std::string& folder) {
  return read_number(folder + "/nr_hugepages");
}

const HugePages* Node::pages_of(std::uint64_t size_bytes) const {
  const auto found = std::find_if(pages.begin(), pages.end(),
                                  [size_bytes](const HugePages& size) { return size.size_bytes == size_bytes; });
  return found != pages.end() ? &*found : nullptr;
}

const Cpu* Topology::cpu(std::uint32_t id) const {
  const auto found = std::lower_bound(cpus.begin(), cpus.end(), id,
                                      [](const Cpu& cpu, std::uint32_t wanted) { return cpu.id < wanted; });
  return found != cpus.end() && found->id == id ? &*found : nullptr;
}

const Node* Topology::node(unsigned id) const {
  const auto found = std::find_if(nodes.begin(), nodes.end(), [id](const Node& node) { return node.id == id; });
  return found != nodes.end() ? &*found : nullptr;
}

}  // namespace nitro::allocator
