// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "nitro/result.h"

namespace nitro::proc {

/// Returns "INSTANCE-encSLOT": the instance ID from the machine's DMI tables, i-0000000000000000 if there is none, and
/// the slot's number in hexadecimal.
[[nodiscard]] std::string enclave_id(std::uint64_t slot_uid);
/// Returns the name of an enclave's socket in the sockets folder: the part of its ID after the last "-enc", and
/// ".sock". Errors: kSocket when `id` cannot be an enclave ID, for example because it contains a '/'.
Result<std::string> socket_name(std::string_view id);
/// Returns the name of a local enclave's folder in the sockets folder (docs/local-vsock.md).
[[nodiscard]] std::string local_folder_name(std::string_view id);

}  // namespace nitro::proc
