// SPDX-License-Identifier: Apache-2.0
#include "src/runtime/ending_signals.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstddef>

#include "src/base/bytes.h"
#include "src/base/output_file.h"
#include "temp_folder.h"

namespace nitro {
namespace {

using testing::read_file;
using testing::TempFolder;
using testing::write_file;

// Has the kernel refuse this process files without a name, as some file systems do; it cannot be undone.
bool refuse_unnamed_files() {
  // The bit that O_TMPFILE has and O_DIRECTORY has not.
  constexpr std::uint32_t kUnnamed = O_TMPFILE & ~O_DIRECTORY;
  std::array filter = {
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3),
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, kUnnamed, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{.len = filter.size(), .filter = filter.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

enum class Naming { kUnnamed, kHiddenName };

// Ends a process by `signal` while it writes a file beside the older one.
void expect_nothing_is_left_by(int signal, Naming naming) {
  SCOPED_TRACE(signal);
  const TempFolder folder;
  write_file(folder / "out", "old");
  auto ready = make_pipe();
  ASSERT_OK(ready);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::prctl(PR_SET_DUMPABLE, 0);  // some of the signals leave a core file
    // Whatever tests before this one have left.
    ::signal(signal, SIG_DFL);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    remove_output_when_a_signal_ends_us();
    if (naming == Naming::kHiddenName && !refuse_unnamed_files()) ::_exit(1);
    auto file = OutputFile::create(folder / "out");
    auto ignored = write_all(file->fd(), as_bytes("half"));
    ignored = write_all(ready->second.get(), as_bytes("x"));
    ::pause();
    ::_exit(0);
  }
  ready->second.reset();
  std::byte x{};
  EXPECT_OK(read_exact(ready->first.get(), std::span(&x, 1)));
  EXPECT_EQ(folder.entries(), naming == Naming::kHiddenName ? 2U : 1U);
  ::kill(pid, signal);
  int status = 0;
  ::waitpid(pid, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == signal) << status;
  EXPECT_EQ(read_file(folder / "out"), "old");
  EXPECT_EQ(folder.entries(), 1U);
}

TEST(EndingSignals, LeaveNothingBehind) {
  for (const int signal : {SIGINT, SIGTERM, SIGKILL, SIGHUP}) expect_nothing_is_left_by(signal, Naming::kUnnamed);
}

TEST(EndingSignals, LeaveNothingBehindWhereFilesNeedAName) {
  if (::prctl(PR_GET_SECCOMP) < 0) GTEST_SKIP() << "this kernel has no seccomp";
  for (const int signal :
       {SIGHUP,  SIGINT,  SIGQUIT, SIGTRAP, SIGABRT,   SIGUSR1, SIGUSR2,   SIGPIPE, SIGALRM,      SIGTERM,
        SIGXCPU, SIGXFSZ, SIGPROF, SIGPOLL, SIGVTALRM, SIGSYS,  SIGSTKFLT, SIGPWR,  SIGRTMIN + 0, SIGRTMAX + 0}) {
    expect_nothing_is_left_by(signal, Naming::kHiddenName);
  }
}

TEST(EndingSignals, AreOnlyThoseThatEndAProcess) {
  if (::prctl(PR_GET_SECCOMP) < 0) GTEST_SKIP() << "this kernel has no seccomp";
  const TempFolder folder;
  const pid_t pid = ::fork();
  if (pid == 0) {
    remove_output_when_a_signal_ends_us();
    if (!refuse_unnamed_files()) ::_exit(1);
    auto file = OutputFile::create(folder / "out");
    for (const int signal : {SIGCHLD, SIGCONT, SIGURG, SIGWINCH}) ::raise(signal);
    ::_exit(file && write_all(file->fd(), as_bytes("all")) && file->commit() ? 0 : 2);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(read_file(folder / "out"), "all");
  EXPECT_EQ(folder.entries(), 1U);
}

TEST(EndingSignals, ThatAreIgnoredStayIgnored) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::signal(SIGHUP, SIG_IGN);  // nohup(1)
    remove_output_when_a_signal_ends_us();
    ::raise(SIGHUP);
    ::_exit(0);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace nitro
