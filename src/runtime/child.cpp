// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "src/base/bytes.h"
#include "src/runtime/program_start.h"

namespace nitro {
namespace {

/// Runs between fork and exec: only async-signal-safe calls, no allocation. Ends with exec, or writes errno to
/// `report_fd`.
[[noreturn]] void become(const ChildOptions& options, char* const* arguments, char* const* environment,
                         const char* program, int null_fd, int report_fd, pid_t parent) {
  const auto give_up = [report_fd] {
    const int error = errno;
    [[maybe_unused]] const ssize_t ignored = ::write(report_fd, &error, sizeof error);
    ::_exit(127);
  };
  if (options.new_session) ::setsid();
  // First duplicate the sources above the standard numbers, so that a source numbered 0, 1 or 2 is not overwritten
  // before it is used.
  int sources[3] = {options.stdin_fd, options.stdout_fd, options.stderr_fd};
  for (int& source : sources) {
    source = ::fcntl(source < 0 ? null_fd : source, F_DUPFD_CLOEXEC, 3);
    if (source < 0) give_up();
  }
  for (int target = 0; target < 3; ++target) {
    if (::dup2(sources[target], target) < 0) give_up();
  }
  for (const int fd : options.inherited_fds) {
    if (::fcntl(fd, F_SETFD, 0) != 0) give_up();
  }
  if (options.user) {
    if ((errno = become_user(*options.user)) != 0) give_up();
  }
  if (options.drop_capabilities) {
    if ((errno = drop_capabilities()) != 0) give_up();
  }
  // Not earlier: the kernel forgets the request when the user changes (prctl(2), PR_SET_PDEATHSIG).
  if (options.parent_death_signal != 0) {
    if (::prctl(PR_SET_PDEATHSIG, options.parent_death_signal) != 0) give_up();
    // The parent may have ended before the request took effect.
    if (::getppid() != parent) ::_exit(127);
  }
  reset_inherited_signals();
  ::execvpe(program, arguments, environment);
  give_up();
  ::_exit(127);
}

/// execvpe takes pointers to non-const for historical reasons and does not write through them (exec(3), rationale in
/// POSIX).
std::vector<char*> pointers_to(const std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  pointers.reserve(texts.size() + 1);
  for (const std::string& text : texts) pointers.push_back(const_cast<char*>(text.c_str()));
  return pointers;
}

/// Whether `environment` contains the variable of `entry`, NAME=VALUE.
bool has_variable(const std::vector<std::string>& environment, std::string_view entry) {
  const std::string_view name = entry.substr(0, entry.find('=') + 1);
  return std::any_of(environment.begin(), environment.end(),
                     [name](const std::string& own) { return own.starts_with(name); });
}

}  // namespace

ExitStatus ExitStatus::from_wait(int wait_status) {
  if (WIFSIGNALED(wait_status)) return {.code = 0, .signal = WTERMSIG(wait_status)};
  return {.code = WEXITSTATUS(wait_status), .signal = 0};
}

std::string ExitStatus::to_string() const {
  if (signal != 0) return fmt::format("was ended by signal {} ({})", signal, ::strsignal(signal));
  return fmt::format("exited with status {}", code);
}

Child::~Child() {
  if (!running()) return;
  ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

Result<Child> Child::spawn(const ChildOptions& options) {
  const std::string& program = options.arguments.at(0);
  const auto failure = [&program](std::string_view step, int error) {
    return fail_errno(ErrorCode::kProcessSpawn, fmt::format("{} {}", step, quote(program)), error);
  };
  auto arguments = pointers_to(options.arguments);
  arguments.push_back(nullptr);
  auto environment = pointers_to(options.environment);
  for (char** variable = ::environ; *variable != nullptr; ++variable) {
    if (!has_variable(options.environment, *variable)) environment.push_back(*variable);
  }
  environment.push_back(nullptr);

  NITRO_TRY(const Fd null, open_file("/dev/null", O_RDWR, 0, ErrorCode::kProcessSpawn));
  NITRO_TRY(auto report, make_pipe());
  const pid_t parent = ::getpid();
  Child child;
  child.pid_ = ::fork();
  if (child.pid_ < 0) return failure("starting", errno);
  if (child.pid_ == 0) {
    become(options, arguments.data(), environment.data(), program.c_str(), null.get(), report.second.get(), parent);
  }
  report.second.reset();
  int exec_errno = 0;
  auto got = read_full(report.first.get(), std::as_writable_bytes(std::span(&exec_errno, 1)));
  if (got && *got == sizeof exec_errno) {
    auto ignored = child.wait();
    return failure("executing", exec_errno);
  }
  // As a raw call: glibc has a wrapper only since 2.36.
  child.pidfd_ = Fd(static_cast<int>(::syscall(SYS_pidfd_open, child.pid_, 0)));
  if (!child.pidfd_) return failure("watching", errno);
  return child;
}

Result<void> Child::send_signal(int signal) {
  if (!running()) return {};
  if (::kill(pid_, signal) != 0)
    return fail_errno(ErrorCode::kProcessSpawn, fmt::format("sending signal {} to process {}", signal, pid_));
  return {};
}

Result<ExitStatus> Child::wait() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0) {
    if (errno != EINTR) return fail_errno(ErrorCode::kProcessSpawn, fmt::format("waiting for process {}", pid_));
  }
  pid_ = -1;
  pidfd_.reset();
  return ExitStatus::from_wait(status);
}

Result<std::optional<ExitStatus>> Child::poll() {
  int status = 0;
  const pid_t pid = ::waitpid(pid_, &status, WNOHANG);
  if (pid < 0) return fail_errno(ErrorCode::kProcessSpawn, fmt::format("asking for process {}", pid_));
  if (pid == 0) return std::optional<ExitStatus>();
  pid_ = -1;
  pidfd_.reset();
  return std::optional(ExitStatus::from_wait(status));
}

}  // namespace nitro
