// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>

#include "src/runtime/privileges.h"

namespace nitro::proc {

/// The first user and group ID that QEMU may run as, and how many there are: 1879048192 to 2147483647, a range that is
/// not allocated (systemd, docs/UIDS-GIDS.md: "unused"; above those of containers, below those that some programs take
/// for negative).
inline constexpr uid_t kFirstQemuUid = 0x70000000;
inline constexpr uid_t kQemuUidCount = 0x10000000;

/// Returns the user that QEMU runs as for the enclave with this number when root starts it. Each enclave has its own
/// user, so that code that breaks out of one QEMU cannot touch another, as it could with a shared user (ptrace(2)). Two
/// enclaves get the same user with a probability of 2^-28; nothing fails then. `device`: a device that QEMU must open,
/// or null; the user is in the group that may. Returns nullopt when this process is not root's, or `device` is open to
/// root alone.
[[nodiscard]] std::optional<UserIds> qemu_user(std::uint64_t slot_uid, const char* device);

}  // namespace nitro::proc
