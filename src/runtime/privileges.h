// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <vector>

#include "nitro/result.h"

namespace nitro {

/// The user and the groups that a process runs as.
struct UserIds {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  ///< supplementary ones
};

/// Gives up all capabilities of the calling thread but those in `kept` (a bit for each number of linux/capability.h),
/// for good: nothing that the thread executes gets one back, whoever it belongs to (PR_SET_NO_NEW_PRIVS). Capabilities
/// are those of a thread (capabilities(7)), so each has to call this. A plain system call each, so it may stand between
/// fork and exec. Returns 0, or the errno of the step that failed.
[[nodiscard]] int drop_capabilities(unsigned long long kept = 0);

/// Becomes `user` for good; to be called as root between fork and exec. Returns 0, or the errno of the step that
/// failed.
[[nodiscard]] int become_user(const UserIds& user);

/// Nobody who runs as the same user may read the memory of this process, or get a core file of it, from now on: it
/// holds private keys, passwords or tokens. /proc/PID belongs to root then (PR_SET_DUMPABLE in prctl(2)). A limit on
/// core files would leave ptrace(2) and /proc/PID/mem open. A program that is executed by it starts without this again.
void forbid_memory_dumps();

}  // namespace nitro
