// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "nitro/result.h"

namespace nitro::proc {

/// "INSTANCE-encSLOT": the instance ID that the machine's DMI tables tell, i-0000000000000000 where there is none, and
/// the slot's number in hexadecimal.
[[nodiscard]] std::string enclave_id(std::uint64_t slot_uid);
/// The name of an enclave's socket in the sockets folder: the part of its ID after the last "-enc", and ".sock".
/// Errors: kSocket when `id` could not be one, for example because it has a '/'.
Result<std::string> socket_name(std::string_view id);
/// The folder of an enclave on a local machine, in the sockets folder (docs/local-vsock.md).
[[nodiscard]] std::string local_folder_name(std::string_view id);

}  // namespace nitro::proc
