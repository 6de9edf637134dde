// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nitro/result.h"

/// Lists of CPUs as the kernel writes and reads them, such as "1-3,5" (lib/bitmap.c, bitmap_parselist). Those of NUMA
/// nodes have the same form.
namespace nitro {

/// More CPUs than any kernel is built for (arch/x86/Kconfig, NR_CPUS); bounds what a list can make us store.
inline constexpr std::uint32_t kMostCpus = 65536;

/// Returns the numbers in the order of the list; a number that is there twice is returned twice. Blanks and blank lines
/// are skipped; an empty list is empty. Errors: kMalformedCpuId for what is no number below kMostCpus, kCpu for a wrong
/// range.
Result<std::vector<std::uint32_t>> parse_cpu_list(std::string_view text);

/// The shortest list of these numbers, ascending.
[[nodiscard]] std::string cpu_list_of(std::vector<std::uint32_t> ids);

}  // namespace nitro
