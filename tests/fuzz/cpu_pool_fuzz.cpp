// SPDX-License-Identifier: Apache-2.0
// The list of CPUs that the driver shows.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <span>

#include "enclave_proc/device/cpu_pool.h"
#include "src/base/bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto pool = nitro::proc::CpuPool::parse(nitro::as_text(std::as_bytes(std::span(data, size))));
  if (!pool || pool->ids().empty()) return 0;
  // Whatever the pool names can be asked for.
  nitro::proc::RunRequest request;
  request.cpus = std::vector{pool->ids().front()};
  if (!pool->check(request)) std::abort();
  request = {};
  request.cpus = static_cast<std::uint32_t>(pool->ids().size());
  if (!pool->check(request)) std::abort();
  return 0;
}
