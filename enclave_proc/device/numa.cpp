// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/device/numa.h"

#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <climits>
#include <filesystem>
#include <string_view>

#include "nitro/fd.h"

namespace nitro::proc {
namespace {

/// More nodes than any kernel is built for (arch/x86/Kconfig, NODES_SHIFT is 10 at most).
constexpr unsigned kMostNodes = 1024;
constexpr unsigned kBitsPerWord = sizeof(unsigned long) * CHAR_BIT;
/// A list of nodes is at most one page.
constexpr std::size_t kListLimitBytes = 4096;

bool has_several_nodes(const KernelFiles& files) {
  const auto online = read_text_file(files.online_nodes(), kListLimitBytes);
  return online && online->find_first_of("-,") != std::string::npos;
}

/// Returns the number in "node1", the name of the link from a CPU to its node.
std::optional<unsigned> node_in(std::string_view name) {
  constexpr std::string_view kPrefix = "node";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  unsigned node = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), node);
  if (error != std::errc() || end != name.data() + name.size() || node >= kMostNodes) return std::nullopt;
  return node;
}

/// mbind(2), for which only libnuma has a wrapper: takes the memory of `page` from `node` or not at all. The kernel
/// reads one bit less than the given count (mm/mempolicy.c, get_nodes).
bool bind_to(unsigned node, std::span<std::byte> page) {
  std::array<unsigned long, kMostNodes / kBitsPerWord> nodes{};
  nodes[node / kBitsPerWord] = 1UL << node % kBitsPerWord;
  return ::syscall(SYS_mbind, page.data(), page.size(), MPOL_BIND, nodes.data(), kMostNodes + 1, 0) == 0;
}

}  // namespace

std::optional<unsigned> numa_node_of(const CpuPool& pool, const KernelFiles& files) {
  if (pool.ids().empty() || !has_several_nodes(files)) return std::nullopt;
  // The CPUs of the pool are offline and in no node's list, but each keeps the link to its node.
  std::error_code error;
  for (std::filesystem::directory_iterator entry(files.cpu(pool.ids().front()), error), end; !error && entry != end;
       entry.increment(error)) {
    if (const auto node = node_in(entry->path().filename().native())) return node;
  }
  return std::nullopt;
}

bool find_page_on(unsigned node, std::span<std::byte> page) {
  const Fd zero(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  if (!zero || !bind_to(node, page)) return true;
  // mmap(2) only checks that the machine has a free huge page; the node is checked when the page is touched. If this
  // program touches a page that is not there, it dies (SIGBUS); if the kernel does so on its behalf, it gets an error
  // (EFAULT). madvise(2) can do the same from Linux 5.14 on.
  return read_exact(zero.get(), page.first(1)).has_value();
}

}  // namespace nitro::proc
