// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <nlohmann/json.hpp>
#include <string>

#include "enclave_proc/machine/machine.h"
#include "nitro/eif/reader.h"

/// The JSON that run-enclave, describe-enclaves and terminate-enclave print. The names and the order of the keys are a
/// public interface.
namespace nitro::proc {

enum class EnclaveState : std::uint8_t { kEmpty, kRunning, kTerminating };

/// Bit 0 of the flags that GetEnclaveFlags answers with (linux/nitro_enclaves.h, NE_ENCLAVE_DEBUG_MODE).
inline constexpr std::uint64_t kDebugModeFlag = 1;

struct EnclaveIdentity {
  std::string name;
  std::string id;
  pid_t process = 0;
  EnclaveResources resources;
  bool debug_mode = false;
};

[[nodiscard]] nlohmann::ordered_json run_info(const EnclaveIdentity& enclave);
[[nodiscard]] nlohmann::ordered_json describe_info(const EnclaveIdentity& enclave, EnclaveState state,
                                                   const eif::Description& image, bool with_metadata);
[[nodiscard]] nlohmann::ordered_json terminate_info(const EnclaveIdentity& enclave);

}  // namespace nitro::proc
