// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/sandbox/sandbox.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <unistd.h>

#include <cstring>

#include "enclave_proc/sandbox/file_access.h"
#include "enclave_proc/sandbox/system_calls.h"
#include "src/runtime/privileges.h"

namespace nitro::proc {

void enter_sandbox(const SandboxNeeds& needs, const std::function<void(const std::string&)>& on_missing) {
  const auto look_at = [&on_missing](int error, const char* what) {
    if (error != 0) on_missing(fmt::format("the enclave process could not give up {}: {}", what, std::strerror(error)));
  };
  // Root's QEMU has its own user, and root needs this capability to kill it. The kernel needs it too, to kill QEMU on
  // behalf of an enclave process that was killed: a parent death signal is sent with the privileges of its sender
  // (kernel/signal.c, check_kill_permission). The filter leaves no other process that can be killed.
  const unsigned long long kept = needs.engine > 0 && ::geteuid() == 0 ? 1ULL << CAP_KILL : 0;
  SystemCallFilter filter(needs.engine);
  look_at(drop_capabilities(kept), "its capabilities");
  look_at(restrict_files(needs.folders), "its access to files");
  look_at(filter.apply(), "its system calls");
}

}  // namespace nitro::proc
