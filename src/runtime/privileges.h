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
  std::vector<gid_t> groups;  ///< supplementary groups
};

/// Permanently drops all capabilities of the calling thread except those in `kept` (one bit for each number of
/// linux/capability.h): nothing that the thread executes can regain one, whoever owns the program
/// (PR_SET_NO_NEW_PRIVS). Capabilities are per thread (capabilities(7)), so each thread must call this. Uses system
/// calls only, so it may be called between fork and exec. Returns 0, or the errno of the step that failed.
[[nodiscard]] int drop_capabilities(unsigned long long kept = 0);

/// Permanently becomes `user`; call it as root between fork and exec. Returns 0, or the errno of the step that failed.
[[nodiscard]] int become_user(const UserIds& user);

/// Prevents other processes of the same user from reading this process's memory or getting a core file of it, as it
/// holds private keys, passwords or tokens. /proc/PID then belongs to root (PR_SET_DUMPABLE in prctl(2)). A limit on
/// core files would still allow ptrace(2) and /proc/PID/mem. A program that this process executes starts without the
/// protection.
void forbid_memory_dumps();

}  // namespace nitro
