// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <vector>

namespace nitro::proc {

/// What an enclave process still needs once its machine has started.
struct SandboxNeeds {
  /// Sockets and logs: the only places where it may open, create and remove files.
  std::vector<std::string> folders;
  /// The child that it may kill (SIGKILL); -1: none.
  pid_t engine = -1;
};

/// Permanently takes from the calling thread, and with the system call filter from all threads of the process, what an
/// enclave process no longer needs (docs/security.md):
///  - the capabilities, except the one to kill a child of another user, and any way to gain new ones;
///  - files outside of `needs.folders`, and with newer kernels abstract Unix sockets and TCP (Landlock);
///  - system calls that it does not use (seccomp).
/// Reports what the kernel or the container lacks through `on_missing`, one sentence each, and applies the rest. An
/// operation that the sandbox forbids fails with ENOSYS, or EACCES for a file. System calls that no part of the process
/// makes but an intruder makes first, such as execve, end the process with SIGSYS.
void enter_sandbox(const SandboxNeeds& needs, const std::function<void(const std::string&)>& on_missing);

}  // namespace nitro::proc
