// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/privileges.h"

#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace nitro {

int drop_capabilities(unsigned long long kept) {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return errno;
  // Drops what exec could grant. This itself needs a capability; a thread without it has none to pass on, or keeps a
  // bounding set that PR_SET_NO_NEW_PRIVS makes useless.
  for (unsigned long capability = 0; ::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; ++capability) {
    if ((kept >> capability & 1U) == 0) ::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
  }
  // The C library has no wrapper, and libcap would be one more library for a single call.
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3> sets{};
  if (::syscall(SYS_capget, &header, sets.data()) != 0) return errno;
  for (__user_cap_data_struct& set : sets) {
    const auto word = static_cast<__u32>(kept);
    set = {.effective = set.effective & word, .permitted = set.permitted & word, .inheritable = 0};
    kept >>= 32;
  }
  return ::syscall(SYS_capset, &header, sets.data()) == 0 ? 0 : errno;
}

int become_user(const UserIds& user) {
  // As raw calls: the C library's wrappers for the last two synchronise all threads, of which a forked child has none,
  // through a lock that one of them may have held.
  if (::syscall(SYS_setgroups, user.groups.size(), user.groups.data()) != 0) return errno;
  if (::syscall(SYS_setresgid, user.gid, user.gid, user.gid) != 0) return errno;
  return ::syscall(SYS_setresuid, user.uid, user.uid, user.uid) == 0 ? 0 : errno;
}

void forbid_memory_dumps() {
  ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

}  // namespace nitro
