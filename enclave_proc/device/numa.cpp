// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/device/numa.h"

#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <climits>
#include <string>

#include "nitro/fd.h"
#include "src/base/numa_node.h"

namespace nitro::proc {
namespace {

constexpr unsigned kBitsPerWord = sizeof(unsigned long) * CHAR_BIT;
/// A list of nodes is at most one page.
constexpr std::size_t kListLimitBytes = 4096;

bool has_several_nodes(const KernelFiles& files) {
  const auto online = read_text_file(files.online_nodes(), kListLimitBytes);
  return online && online->find_first_of("-,") != std::string::npos;
}

/// mbind(2), for which only libnuma has a wrapper: takes the memory of `page` from `node` or not at all. The kernel
/// reads one bit less than the given count (mm/mempolicy.c, get_nodes).
bool bind_to(unsigned node, std::span<std::byte> page) {
  std::array<unsigned long, kMostNumaNodes / kBitsPerWord> nodes{};
  nodes[node / kBitsPerWord] = 1UL << node % kBitsPerWord;
  return ::syscall(SYS_mbind, page.data(), page.size(), MPOL_BIND, nodes.data(), kMostNumaNodes + 1, 0) == 0;
}

}  // namespace

std::optional<unsigned> numa_node_of(const CpuPool& pool, const KernelFiles& files) {
  if (pool.ids().empty() || !has_several_nodes(files)) return std::nullopt;
  return numa_node_of_cpu(pool.ids().front(), files);
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
