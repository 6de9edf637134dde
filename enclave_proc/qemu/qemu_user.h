// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "src/runtime/privileges.h"

namespace nitro::proc {

/// The first of the user and group numbers that QEMU runs as, and how many there are: 1879048192 to 2147483647, the
/// range that nobody gives out (systemd, docs/UIDS-GIDS.md: "unused"; above those of containers, below those that some
/// programs take for negative).
inline constexpr uid_t kFirstQemuUid = 0x70000000;
inline constexpr uid_t kQemuUidCount = 0x10000000;

/// The user that the QEMU of the enclave with this number runs as when root starts it: one of its own, so that what
/// breaks out of one enclave's QEMU cannot touch another's, which one shared user could do (ptrace(2)). The numbers of
/// two enclaves are the same once in 2^28; nothing fails then. `device`: a device that QEMU has to open, or null; the
/// user is in the group that may. Nothing when this process is not root's, or `device` is open to root alone.
[[nodiscard]] std::optional<UserIds> qemu_user(std::uint64_t slot_uid, const char* device);

}  // namespace nitro::proc
