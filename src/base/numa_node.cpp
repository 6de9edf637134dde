// SPDX-License-Identifier: Apache-2.0
#include "src/base/numa_node.h"

#include <filesystem>
#include <string_view>

#include "src/base/number.h"

namespace nitro {

std::optional<unsigned> numa_node_of_cpu(std::uint32_t id, const KernelFiles& files) {
  constexpr std::string_view kPrefix = "node";
  std::error_code error;
  for (std::filesystem::directory_iterator entry(files.cpu(id), error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename();
    if (!name.starts_with(kPrefix)) continue;
    const auto node = parse_number<unsigned>(std::string_view(name).substr(kPrefix.size()));
    if (node && *node < kMostNumaNodes) return node;
  }
  return std::nullopt;
}

}  // namespace nitro
