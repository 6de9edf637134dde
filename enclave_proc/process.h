// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "enclave_proc/machine/machine.h"
#include "enclave_proc/registry/folder_lock.h"
#include "enclave_proc/registry/sockets_folder.h"
#include "nitro/fd.h"
#include "src/runtime/child.h"

namespace nitro::proc {

/// The command line's handle on a process that it has just started. Until leave_running() is called, the start is
/// undone when this object or the command line's process goes away.
class StartedProcess {
 public:
  StartedProcess(Fd socket, pid_t process) : socket_(std::move(socket)), process_(process) {}

  /// Carries replies of the protocol without a leading confirmation. After status 0 the enclave runs, and the socket
  /// stays open until leave_running(); after any other status the process ends.
  [[nodiscard]] int socket() const { return socket_.get(); }
  /// Call this when the enclave runs and the user has been told: from then on it lives without this process.
  void leave_running();
  /// Undoes the start and waits until the process has ended. Returns nullopt if it cannot be known how it ended.
  std::optional<ExitStatus> end();

 private:
  Fd socket_;
  std::optional<ExitStatus> end_;
  pid_t process_;  // a child of this process, which has made itself a subreaper (prctl(2))
};

/// Starts the enclave process: a daemon created by double fork, in its own session, with no inherited descriptors
/// except those it needs. It starts the enclave, reports the outcome, and then lives as long as the enclave, serving
/// `<folder>/<slot>.sock`. `name` is held until the enclave can be asked for it. The image is opened here, as its path
/// may mean something else in the process (/dev/stdin).
///
/// Makes the calling process a subreaper (prctl(2)), so that it can tell how the enclave process ended. The calling
/// process must be single-threaded. Errors: kSocketPairCreation, kProcessSpawn, kDaemonizeProcess.
Result<StartedProcess> start_enclave_process(const RunRequest& request, const SocketsFolder& folder, FolderLock name,
                                             const std::string& logs_folder);

}  // namespace nitro::proc
