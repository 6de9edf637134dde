// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/machine/machine.h"

namespace nitro::proc {

std::chrono::milliseconds boot_timeout_for(std::uint64_t eif_bytes, std::uint64_t memory_bytes) {
  constexpr std::chrono::seconds kStep(90);
  const auto steps = [](std::uint64_t bytes, std::uint64_t per_step) {
    return static_cast<std::int64_t>(bytes == 0 ? 1 : 1 + (bytes - 1) / per_step);
  };
  return kStep * (steps(eif_bytes, 6 * kGiB) + steps(memory_bytes, 100 * kGiB));
}

}  // namespace nitro::proc
