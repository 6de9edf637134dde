// SPDX-License-Identifier: Apache-2.0
#include "bootstrap/allocator/kernel.h"

#include <fcntl.h>

#include <string>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/cpu_list.h"

namespace nitro::allocator {
namespace {

/// Files of sysfs take a value in one write.
Result<void> write_value(const std::string& path, const std::string& value, ErrorCode code) {
  NITRO_TRY(const Fd file, open_file(path, O_WRONLY | O_TRUNC, 0, code));
  auto written = write_all(file.get(), as_bytes(value + "\n"));
  if (written) return {};
  return fail_errno(code, "writing " + quote(value) + " to " + quote(path), written.error().system_errno());
}

}  // namespace

Result<void> Kernel::set_cpu_pool(const std::vector<std::uint32_t>& cpus) {
  return write_value(sysfs_.cpu_pool(), cpu_list_of(cpus), ErrorCode::kCpu);
}

Result<std::uint64_t> Kernel::set_pages(const HugePages& pages, std::uint64_t total) {
  NITRO_CHECK(write_value(pages.folder + "/nr_hugepages", std::to_string(total), ErrorCode::kFileOperation));
  return read_page_count(pages.folder);
}

void Kernel::compact_memory(unsigned node) {
  // Not every kernel has it (CONFIG_COMPACTION).
  static_cast<void>(write_value(sysfs_.compact(node), "1", ErrorCode::kFileOperation));
}

}  // namespace nitro::allocator
