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

/// The command line's end of a process that has just been started. Until leave_running() is called the start is undone
/// when this object, or the command line's process, goes away.
class StartedProcess {
 public:
  StartedProcess(Fd socket, pid_t process) : socket_(std::move(socket)), process_(process) {}

  /// Carries replies of the protocol, no confirmation first. After the status 0 the enclave runs, and the socket stays
  /// open until leave_running(); after another one the process ends.
  [[nodiscard]] int socket() const { return socket_.get(); }
  /// To be called when the enclave runs and the user has been told so: from now on it lives without this process.
  void leave_running();
  /// Undoes the start and waits until the process has ended. Nothing: how it ended cannot be known.
  std::optional<ExitStatus> end();

 private:
  Fd socket_;
  std::optional<ExitStatus> end_;
  pid_t process_;  // a child of this process, as it has made itself the reaper of orphans (prctl(2))
};

/// Starts the enclave process: a daemon by double fork, in a session of its own, without a descriptor of ours but what
/// it needs. It starts the enclave, tells how that went, and then lives as long as the enclave does, serving
/// `<folder>/<slot>.sock`. `name` is held until the enclave can be asked for it. The image is
/// opened here, as its path may mean something else in the process (/dev/stdin).
///
/// The calling process becomes the one that orphans below it are handed to, so that it can tell how the process ended.
/// It must have no second thread. Errors: kSocketPairCreation, kProcessSpawn, kDaemonizeProcess.
Result<StartedProcess> start_enclave_process(const RunRequest& request, const SocketsFolder& folder, FolderLock name,
                                             const std::string& logs_folder);

}  // namespace nitro::proc
