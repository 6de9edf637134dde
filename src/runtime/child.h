// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nitro/fd.h"
#include "src/runtime/privileges.h"

namespace nitro {

/// How a child ended, as reported by waitpid(2).
struct ExitStatus {
  int code = 0;    ///< exit status, valid if signal is 0
  int signal = 0;  ///< the signal that ended it, or 0
  [[nodiscard]] bool success() const { return code == 0 && signal == 0; }
  /// Decodes the status of waitpid(2).
  static ExitStatus from_wait(int wait_status);
  /// Returns "exited with status 3", "was ended by signal 9 (Killed)".
  [[nodiscard]] std::string to_string() const;
};

/// Settings of a new process. Descriptors are borrowed; all other descriptors of this process are close-on-exec.
struct ChildOptions {
  std::vector<std::string> arguments;      ///< arguments[0] is the program, looked up in PATH if it has no '/'
  int stdin_fd = -1;                       ///< -1: /dev/null
  int stdout_fd = -1;                      ///< -1: /dev/null
  int stderr_fd = -1;                      ///< -1: /dev/null; equal to stdout_fd is allowed
  std::vector<int> inherited_fds;          ///< kept open under the same numbers; each at least 3
  std::vector<std::string> environment{};  ///< NAME=VALUE, replacing this process's variables of these names
  bool new_session = false;                ///< setsid: keys typed at our terminal do not reach it
  std::optional<UserIds> user{};           ///< the user to run as; only root can choose
  bool drop_capabilities = false;          ///< it has none and cannot gain any, whatever it executes
  int parent_death_signal = 0;  ///< sent to the child when the thread that started it ends (prctl(2)); 0: none
};

/// Owns one child process. Unless it has been waited for, destruction kills (SIGKILL) and reaps it.
class Child {
 public:
  Child() = default;
  Child(Child&& other) noexcept : pid_(std::exchange(other.pid_, -1)), pidfd_(std::move(other.pidfd_)) {}
  Child& operator=(Child other) noexcept {
    std::swap(pid_, other.pid_);
    std::swap(pidfd_, other.pidfd_);
    return *this;
  }
  ~Child();

  /// Forks and executes a program. If the program cannot be executed, this is an error here (kProcessSpawn, with the
  /// errno), not a dead child.
  static Result<Child> spawn(const ChildOptions& options);

  [[nodiscard]] bool running() const { return pid_ > 0; }
  [[nodiscard]] pid_t pid() const { return pid_; }
  /// Becomes readable when the child ends (pidfd_open(2)).
  [[nodiscard]] int pidfd() const { return pidfd_.get(); }

  Result<void> send_signal(int signal);
  /// Blocks until the child has ended and reaps it.
  Result<ExitStatus> wait();
  /// Reaps the child if it has ended; returns nullopt while it runs.
  Result<std::optional<ExitStatus>> poll();

 private:
  pid_t pid_ = -1;
  Fd pidfd_;
};

}  // namespace nitro
