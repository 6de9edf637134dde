// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

/// The vsock addresses that have a meaning for enclaves.
namespace nitro::proc {

/// VMADDR_CID_HOST of linux/vm_sockets.h.
inline constexpr std::uint32_t kHostCid = 2;
/// The parent of every enclave, the instance it was carved out of (Nitro Enclaves user guide). The last reserved CID: 0
/// to 2 belong to vsock(7).
inline constexpr std::uint32_t kParentCid = 3;
/// The first CID that enclaves get when the user names none.
inline constexpr std::uint64_t kFirstEnclaveCid = 16;

/// The vsock port on which the parent waits for the heartbeat of a booted enclave, and the byte that both sides send.
inline constexpr std::uint32_t kHeartbeatPort = 9000;
inline constexpr std::byte kHeartbeat{0xb7};

/// Offset from an enclave's CID to its console port at the hypervisor (Nitro Enclaves user guide, debug mode).
inline constexpr std::uint32_t kConsolePortOffset = 10000;

}  // namespace nitro::proc
