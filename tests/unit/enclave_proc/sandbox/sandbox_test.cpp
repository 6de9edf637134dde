// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/sandbox/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/landlock.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <ctime>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>

#include "descriptor_limit.h"
#include "enclave_proc/sandbox/file_access.h"
#include "nitro/fd.h"
#include "src/runtime/child.h"
#include "src/runtime/event_loop.h"
#include "src/runtime/unix_socket.h"
#include "temp_folder.h"

namespace nitro::proc {
namespace {

bool kernel_has_landlock() {
  return ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION) > 0;
}

class SandboxTest : public ::testing::Test {
 protected:
  /// What `action` returns in a process that has entered the sandbox: 0 to 255; -1 if it could not be entered; the
  /// number of the signal that ended the process, and 1000.
  int inside(const std::function<int()>& action, pid_t engine = -1) {
    const pid_t child = ::fork();
    if (child == 0) {
      bool whole = true;
      enter_sandbox({.folders = {folder_.path()}, .engine = engine}, [&whole](const std::string& missing) {
        if (missing.find("files") == std::string::npos || kernel_has_landlock()) whole = false;
      });
      ::_exit(whole ? action() : 255);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) return 1000 + WTERMSIG(status);
    return WEXITSTATUS(status) == 255 ? -1 : WEXITSTATUS(status);
  }
  /// The errno of a call that returns -1, 0 for one that does not.
  static int errno_of(long result) { return result == -1 ? errno : 0; }

  nitro::testing::TempFolder folder_;
};

constexpr int kEndedBySigsys = 1000 + SIGSYS;

TEST_F(SandboxTest, RestrictsNoFilesWhenItLacksADescriptorForARule) {
  if (!kernel_has_landlock()) GTEST_SKIP() << "this kernel has no Landlock";
  NITRO_NEEDS_THE_LAST_DESCRIPTORS();
  const pid_t child = ::fork();
  if (child == 0) {
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) ::_exit(1);
    {
      const nitro::testing::DescriptorLimit limit(1);  // for the set of rules, and none for the folder of the first
      if (restrict_files({folder_.path()}) != EMFILE) ::_exit(2);
    }
    ::_exit(errno_of(::open((folder_ / "file").c_str(), O_WRONLY | O_CREAT, 0600)) == 0 ? 0 : 3);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(SandboxTest, OpensMakesAndRemovesFilesInItsFoldersOnly) {
  if (!kernel_has_landlock()) GTEST_SKIP() << "this kernel has no Landlock";
  const nitro::testing::TempFolder elsewhere;
  nitro::testing::write_file(elsewhere / "file", "text");
  const std::string file = elsewhere / "file";
  const std::string fresh = elsewhere / "fresh";
  EXPECT_EQ(inside([&] { return errno_of(::open(file.c_str(), O_RDONLY)); }), EACCES);
  EXPECT_EQ(inside([&] { return errno_of(::open(file.c_str(), O_WRONLY)); }), EACCES);
  EXPECT_EQ(inside([&] { return errno_of(::open(fresh.c_str(), O_WRONLY | O_CREAT, 0600)); }), EACCES);
  EXPECT_EQ(inside([&] { return errno_of(::unlink(file.c_str())); }), EACCES);
  EXPECT_EQ(inside([] { return errno_of(::open("/etc/passwd", O_RDONLY)); }), EACCES);

  const std::string inner = folder_ / "file";
  EXPECT_EQ(inside([&] { return errno_of(::open(inner.c_str(), O_WRONLY | O_APPEND | O_CREAT, 0600)); }), 0);
  EXPECT_EQ(inside([&] { return errno_of(::open(inner.c_str(), O_RDONLY)); }), 0);
  EXPECT_EQ(inside([&] { return errno_of(::rename(inner.c_str(), (folder_ / "other").c_str())); }), 0);
  EXPECT_EQ(inside([&] { return errno_of(::unlink((folder_ / "other").c_str())); }), 0);
}

TEST_F(SandboxTest, RemovesAFolderWithAllThatIsInIt) {
  const std::string folder = folder_ / "enclave.vsock";
  std::filesystem::create_directory(folder);
  nitro::testing::write_file(folder + "/port_5000", "");
  EXPECT_EQ(inside([&] {
              std::error_code error;
              std::filesystem::remove_all(folder, error);
              return error.value();
            }),
            0);
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST_F(SandboxTest, ListensOnASocketWithTheModeThatIsAskedForAndIsConnectedTo) {
  const std::string path = folder_ / "socket";
  EXPECT_EQ(inside([&] {
              const auto listener = listen_unix(path, 0766);
              if (!listener) return 1;
              struct stat status {};
              if (::stat(path.c_str(), &status) != 0 || (status.st_mode & 0777) != 0766) return 2;
              const auto client = connect_unix(path, Wait::kNo);
              if (!client) return 3;
              const auto accepted = accept_unix(listener->fd.get());
              if (!accepted || !accepted->valid()) return 4;
              return peer_credentials(accepted->get()) ? 0 : 5;
            }),
            0);
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(SandboxTest, RunsAnEventLoopWithTimersAndThreads) {
  EXPECT_EQ(inside([] {
              bool done = false;
              std::thread([&done] { done = true; }).join();
              return done ? 0 : 1;
            }),
            0);
  auto loop = EventLoop::create();
  ASSERT_OK(loop);
  EXPECT_EQ(inside([&] {
              auto timer = (*loop)->watch_timer(std::chrono::milliseconds(1), [&] { (*loop)->stop(); });
              return timer.active() && (*loop)->run() ? 0 : 1;
            }),
            0);
}

TEST_F(SandboxTest, EndsAtCallsThatOnlyAnIntruderMakes) {
  char* const nothing[] = {nullptr};
  EXPECT_EQ(inside([&] { return ::execve("/bin/true", nothing, nothing); }), kEndedBySigsys);
  EXPECT_EQ(inside([] { return static_cast<int>(::fork()); }), kEndedBySigsys);
  EXPECT_EQ(inside([] { return static_cast<int>(::vfork()); }), kEndedBySigsys);
  EXPECT_EQ(inside([] { return static_cast<int>(::syscall(SYS_setresuid, 0, 0, 0)); }), kEndedBySigsys);
  EXPECT_EQ(inside([] { return static_cast<int>(::syscall(SYS_bpf, 0, nullptr, 0)); }), kEndedBySigsys);
  EXPECT_EQ(inside([] { return static_cast<int>(::syscall(SYS_process_vm_writev, 1, nullptr, 0, nullptr, 0, 0)); }),
            kEndedBySigsys);
}

// The C library, or a library, of a later day may try them, and does without.
TEST_F(SandboxTest, AnswersOtherCallsAsAKernelThatDoesNotHaveThem) {
  constexpr long kOfALaterKernel = 400 + 500;
  for (const long call : {long{SYS_clone3}, long{SYS_openat2}, long{SYS_getrusage}, long{SYS_ioctl}, long{SYS_prctl},
                          long{SYS_io_uring_enter}, long{SYS_memfd_create}, long{SYS_fchmodat}, kOfALaterKernel}) {
    EXPECT_EQ(inside([call] { return errno_of(::syscall(call, 0, 0, 0, 0)); }), ENOSYS) << call;
  }
}

// Filters of others have broken on these: a clock that is no vDSO call on some machines, another call for an old
// function in a later C library, a call that only an error path makes.
TEST_F(SandboxTest, MakesTheCallsThatOtherMachinesAndCLibrariesMakeForTheSameFunctions) {
  for (const long call :
       {long{SYS_clock_gettime}, long{SYS_gettimeofday}, long{SYS_clock_nanosleep}, long{SYS_nanosleep},
        long{SYS_futex},         long{SYS_rseq},         long{SYS_faccessat},       long{SYS_faccessat2},
        long{SYS_statx},         long{SYS_newfstatat},   long{SYS_epoll_pwait},     long{SYS_epoll_pwait2},
        long{SYS_ppoll},         long{SYS_accept},       long{SYS_close_range},     long{SYS_getrandom},
        long{SYS_sigaltstack},   long{SYS_readlinkat},   long{SYS_wait4},           long{SYS_waitid},
        long{SYS_membarrier}}) {
    // What the arguments are good for is another matter; close_range is given nothing to close.
    EXPECT_NE(inside([call] { return errno_of(::syscall(call, -1, 0, 1U << 20, 0, 0, 0)); }), ENOSYS) << call;
  }
  EXPECT_EQ(inside([] {
              const std::time_t now = 0;
              std::tm local{};
              return ::localtime_r(&now, &local) != nullptr ? 0 : 1;
            }),
            0);
}

TEST_F(SandboxTest, MakesNoCodeAndNoConnectionToTheNetwork) {
  EXPECT_EQ(inside([] { return errno_of(::socket(AF_INET, SOCK_STREAM, 0)); }), ENOSYS);
  EXPECT_EQ(inside([] { return errno_of(::socket(AF_NETLINK, SOCK_RAW, 0)); }), ENOSYS);
  EXPECT_EQ(inside([] {
              void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              return page == MAP_FAILED ? errno : 0;
            }),
            ENOSYS);
  EXPECT_EQ(inside([] {
              void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
              if (page == MAP_FAILED) return 1;
              return errno_of(::mprotect(page, 4096, PROT_READ | PROT_EXEC));
            }),
            ENOSYS);
}

TEST_F(SandboxTest, KillsItsEngineAndNobodyElse) {
  auto engine = Child::spawn({.arguments = {"sleep", "1000"}, .inherited_fds = {}});
  ASSERT_OK(engine);
  const pid_t pid = engine->pid();
  EXPECT_EQ(inside([] { return errno_of(::kill(::getppid(), 0)); }, pid), ENOSYS);
  EXPECT_EQ(inside([] { return errno_of(::kill(-1, 0)); }, pid), ENOSYS);
  EXPECT_EQ(inside([pid] { return errno_of(::kill(pid, SIGSTOP)); }, pid), ENOSYS);
  // A signal by a descriptor's owner would go out with what root may.
  EXPECT_EQ(inside([] { return errno_of(::fcntl(0, F_SETOWN, ::getppid())); }, pid), ENOSYS);
  EXPECT_EQ(inside([] { return errno_of(::fcntl(0, F_SETSIG, SIGKILL)); }, pid), ENOSYS);
  EXPECT_EQ(inside([pid] { return errno_of(::kill(pid, SIGKILL)); }, pid), 0);
  EXPECT_EQ(engine->wait()->signal, SIGKILL);
}

TEST_F(SandboxTest, StillFailsLoudly) {
  EXPECT_EQ(inside([]() -> int { ::abort(); }), 1000 + SIGABRT);
}

}  // namespace
}  // namespace nitro::proc
