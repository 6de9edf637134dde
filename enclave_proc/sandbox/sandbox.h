// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace nitro::proc {

/// What an enclave process still needs when its machine has been started.
struct SandboxNeeds {
  /// Sockets and logs: the only places where it may open, make and remove files.
  std::vector<std::string> folders;
  /// The child that it may kill (SIGKILL); -1: none.
  pid_t engine = -1;
};

/// Takes from the calling thread, and by the filter of system calls from all threads of the process, what an enclave
/// process does not need any more, for good (docs/security.md):
///  - the capabilities, but the one to kill a child of another user, and any way to get new ones;
///  - files outside of `needs.folders`, and with newer kernels abstract Unix sockets and TCP (Landlock);
///  - system calls that it has no use for (seccomp).
/// What the kernel or the container does not have is told through `on_missing`, one sentence each; the rest is applied.
/// A step that the sandbox makes impossible fails with ENOSYS, or EACCES for a file; what no part of the process ever
/// calls and an intruder calls first, such as execve, ends the process with SIGSYS.
void enter_sandbox(const SandboxNeeds& needs, const std::function<void(const std::string&)>& on_missing);

}  // namespace nitro::proc
