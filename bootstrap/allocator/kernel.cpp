// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/allocator/kernel.h"

#include <fcntl.h>

#include <cerrno>
#include <string>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/cpu_list.h"

namespace nitro::allocator {
namespace {

/// Files of files take a value in one write.
Result<void> write_value(const std::string& path, const std::string& value, ErrorCode code) {
  NITRO_TRY(const Fd file, open_file(path, O_WRONLY | O_TRUNC, 0, code));
  auto written = write_all(file.get(), as_bytes(value + "\n"));
  if (written) return {};
  return fail_errno(code, "writing " + quote(value) + " to " + quote(path), written.error().system_errno());
}

}  // namespace

Result<void> Kernel::set_cpu_pool(const std::vector<std::uint32_t>& cpus) {
  auto set = write_value(files_.cpu_pool(), cpu_list_of(cpus), ErrorCode::kCpu);
  if (set || !cpus.empty() || set.error().system_errno() != EINVAL) return set;
  // The driver gives all CPUs back, and then says that it has none (ne_misc_dev.c, ne_set_kernel_param).
  NITRO_TRY(const Topology now, topology());
  if (now.cpu_pool && now.cpu_pool->empty()) return {};
  return set;
}

Result<std::uint64_t> Kernel::set_pages(const HugePages& pages, std::uint64_t total) {
  NITRO_CHECK(write_value(pages.folder + "/nr_hugepages", std::to_string(total), ErrorCode::kFileOperation));
  return read_page_count(pages.folder);
}

void Kernel::compact_memory(unsigned node) {
  // Not every kernel has it (CONFIG_COMPACTION).
  static_cast<void>(write_value(files_.compact(node), "1", ErrorCode::kFileOperation));
}

}  // namespace nitro::allocator
