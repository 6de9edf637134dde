// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/sandbox/system_calls.h"

#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <type_traits>

namespace nitro::proc {
namespace {

// Which system calls a C library makes for a function changes with its version. Where it tries a newer one first, such
// as clone3, statx or faccessat2, ENOSYS makes it fall back to the older one; any other error would be final.
constexpr std::uint32_t kOtherwise = SCMP_ACT_ERRNO(ENOSYS);

// Grouped by subject, not one call per line.
// clang-format off
constexpr std::initializer_list<int> kAllowed = {
    // Memory; executable mappings are restricted below.
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
    // Threads: the one that measures the image and its hashing threads, their exit, and the C library's locks.
    SCMP_SYS(futex), SCMP_SYS(rseq), SCMP_SYS(set_robust_list), SCMP_SYS(exit), SCMP_SYS(exit_group),
    SCMP_SYS(gettid), SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(getcpu), SCMP_SYS(membarrier),
    // The event loop: descriptors, timers, signals, and the kicks and calls of the rings.
    SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2), SCMP_SYS(epoll_ctl), SCMP_SYS(poll),
    SCMP_SYS(ppoll), SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime), SCMP_SYS(eventfd2), SCMP_SYS(signalfd4),
    SCMP_SYS(pipe2),
    // Streams, the image and the log.
    SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(pread64), SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(pwrite64),
    SCMP_SYS(lseek), SCMP_SYS(fadvise64), SCMP_SYS(close), SCMP_SYS(close_range), SCMP_SYS(dup),
    // Commands, the console, vsock. The rules below limit the kinds of socket.
    SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(connect), SCMP_SYS(shutdown),
    SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(sendto), SCMP_SYS(sendmsg), SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt), SCMP_SYS(getsockname), SCMP_SYS(getpeername),
    // Files: reopening the log after its rotation, error reports, publishing, watching and removing sockets, the lock
    // file, removing a local enclave's folder. None of these changes the mode or owner of a file by name.
    SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(fstat), SCMP_SYS(newfstatat),
    SCMP_SYS(statx), SCMP_SYS(fstatfs), SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(faccessat2),
    SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getdents64), SCMP_SYS(unlink), SCMP_SYS(unlinkat),
    SCMP_SYS(rmdir), SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2), SCMP_SYS(flock), SCMP_SYS(fchmod),
    SCMP_SYS(umask), SCMP_SYS(inotify_init1), SCMP_SYS(inotify_add_watch), SCMP_SYS(inotify_rm_watch),
    // Signals, and the end of a child. A rule below limits the target processes.
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall), SCMP_SYS(wait4), SCMP_SYS(waitid),
    // Time, identity, information about the system.
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(getrandom), SCMP_SYS(getpid), SCMP_SYS(getppid),
    SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(uname), SCMP_SYS(sysinfo),
};

// No part of this process makes these calls, whatever its input and whichever libraries it is linked with. A process
// that does has been taken over: it is killed before it can try anything else. QEMU dies with it, and the kernel frees
// a device's enclave.
constexpr std::initializer_list<int> kOfAnIntruder = {
    SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(kcmp), SCMP_SYS(pidfd_getfd), SCMP_SYS(setuid),
    SCMP_SYS(setgid), SCMP_SYS(setreuid), SCMP_SYS(setregid), SCMP_SYS(setresuid), SCMP_SYS(setresgid),
    SCMP_SYS(setfsuid), SCMP_SYS(setfsgid), SCMP_SYS(setgroups), SCMP_SYS(capset), SCMP_SYS(chmod), SCMP_SYS(chown),
    SCMP_SYS(lchown), SCMP_SYS(link), SCMP_SYS(symlink), SCMP_SYS(mknod), SCMP_SYS(mount), SCMP_SYS(umount2),
    SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(setns), SCMP_SYS(unshare), SCMP_SYS(open_tree),
    SCMP_SYS(move_mount), SCMP_SYS(fsopen), SCMP_SYS(open_by_handle_at), SCMP_SYS(bpf), SCMP_SYS(perf_event_open),
    SCMP_SYS(userfaultfd), SCMP_SYS(io_uring_setup), SCMP_SYS(keyctl), SCMP_SYS(add_key), SCMP_SYS(request_key),
    SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(delete_module), SCMP_SYS(kexec_load),
    SCMP_SYS(kexec_file_load), SCMP_SYS(reboot), SCMP_SYS(swapon), SCMP_SYS(iopl), SCMP_SYS(ioperm),
    SCMP_SYS(modify_ldt),
};
// clang-format on

scmp_arg_cmp is(unsigned argument, scmp_datum_t value) {
  return {.arg = argument, .op = SCMP_CMP_EQ, .datum_a = value, .datum_b = 0};
}
/// Compares the 32 bits of an int: the upper half of the register is undefined.
scmp_arg_cmp is_int(unsigned argument, std::uint32_t value) {
  return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = 0xffffffff, .datum_b = value};
}
scmp_arg_cmp lacks(unsigned argument, scmp_datum_t bits) {
  return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = bits, .datum_b = 0};
}
scmp_arg_cmp has(unsigned argument, scmp_datum_t bits) {
  return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = bits, .datum_b = bits};
}

}  // namespace

/// A filter under construction. The first error is kept; nothing more is added after it.
class SystemCallFilter::Filter {
 public:
  Filter() : filter_(seccomp_init(kOtherwise)) {
    if (filter_ == nullptr) error_ = ENOMEM;
    // Applies to all threads; a tree instead of a list, as every system call passes through it; rejects other ABIs than
    // the program's.
    set(SCMP_FLTATR_CTL_TSYNC, 1);
    set(SCMP_FLTATR_CTL_OPTIMIZE, 2);
    set(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    // Logs each refused call in the kernel's log, so that a call missing from the list is noticed. Since Linux 4.14;
    // before that, the filter works without it.
    if (error_ == 0) static_cast<void>(seccomp_attr_set(filter_.get(), SCMP_FLTATR_CTL_LOG, 1));
  }

  void add(std::uint32_t action, int call, std::initializer_list<scmp_arg_cmp> arguments = {}) {
    if (error_ != 0) return;
    error_ = -seccomp_rule_add_array(filter_.get(), action, call, static_cast<unsigned>(arguments.size()),
                                     arguments.begin());
  }
  [[nodiscard]] int load() { return error_ != 0 ? error_ : -seccomp_load(filter_.get()); }

 private:
  void set(scmp_filter_attr attribute, std::uint32_t value) {
    if (error_ == 0) error_ = -seccomp_attr_set(filter_.get(), attribute, value);
  }

  struct Release {
    void operator()(void* filter) const { seccomp_release(filter); }
  };
  std::unique_ptr<std::remove_pointer_t<scmp_filter_ctx>, Release> filter_;
  int error_ = 0;
};

SystemCallFilter::SystemCallFilter(pid_t engine) : filter_(std::make_unique<Filter>()) {
  Filter& filter = *filter_;
  for (const int call : kAllowed) filter.add(SCMP_ACT_ALLOW, call);
  for (const int call : kOfAnIntruder) filter.add(SCMP_ACT_KILL_PROCESS, call);
  // No memory can become executable.
  filter.add(SCMP_ACT_ALLOW, SCMP_SYS(mmap), {lacks(2, PROT_EXEC)});
  filter.add(SCMP_ACT_ALLOW, SCMP_SYS(mprotect), {lacks(2, PROT_EXEC)});
  // A thread, not a process. clone3 has its flags in memory, out of the filter's sight: ENOSYS makes the C library use
  // clone.
  filter.add(SCMP_ACT_ALLOW, SCMP_SYS(clone), {has(0, CLONE_THREAD)});
  filter.add(SCMP_ACT_KILL_PROCESS, SCMP_SYS(clone), {lacks(0, CLONE_THREAD)});
  // Local and vsock sockets; no network.
  for (const std::uint32_t family : {std::uint32_t{AF_UNIX}, std::uint32_t{AF_VSOCK}})
    filter.add(SCMP_ACT_ALLOW, SCMP_SYS(socket), {is_int(0, family)});
  filter.add(SCMP_ACT_ALLOW, SCMP_SYS(socketpair), {is_int(0, AF_UNIX)});
  // No F_SETOWN and F_SETSIG: they could send any signal to any process with root's privileges (fcntl(2)).
  for (const int command :
       {F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_OFD_GETLK, F_OFD_SETLK, F_GET_SEALS, F_ADD_SEALS}) {
    filter.add(SCMP_ACT_ALLOW, SCMP_SYS(fcntl), {is_int(1, static_cast<std::uint32_t>(command))});
  }
  // A lock file gets the group of its folder, but never another owner.
  filter.add(SCMP_ACT_ALLOW, SCMP_SYS(fchown), {is_int(1, static_cast<uid_t>(-1))});
  // Limits can be read, not set.
  filter.add(SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), {is(2, 0)});
  // abort() ends this process; SIGKILL ends the engine.
  filter.add(SCMP_ACT_ALLOW, SCMP_SYS(tgkill), {is_int(0, static_cast<std::uint32_t>(::getpid()))});
  if (engine > 0) {
    filter.add(SCMP_ACT_ALLOW, SCMP_SYS(kill), {is_int(0, static_cast<std::uint32_t>(engine)), is_int(1, SIGKILL)});
  }
}

SystemCallFilter::~SystemCallFilter() = default;

int SystemCallFilter::apply() {
  return filter_->load();
}

}  // namespace nitro::proc
