// SPDX-License-Identifier: Apache-2.0
//
// The first process of an enclave.
//
// The kernel unpacks the ramdisks of an enclave image into one file tree and starts /init from it:
//   /init  /nsm.ko           from the bootstrap ramdisk
//   /cmd  /env  /rootfs/...  from the customer ramdisk: argument list, environment, the container's file tree
// In this order: /dev and the console, the NSM driver, the heartbeat to the parent, /env and /cmd, the move into
// /rootfs, the file systems that a container expects, the command. Then it forwards signals and reaps children until
// the command ends, and reboots; the hypervisor treats the reboot as the end of the enclave.
//
// Nothing here may end or crash the process: when process 1 dies, the kernel panics. Every unrecoverable error becomes
// one console line and a reboot. docs/enclave-init.md lists every line.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __x86_64__
#include <sys/io.h>
#endif
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

// From the kernel's include/uapi/linux/vm_sockets.h, which musl lacks.
struct sockaddr_vm {
  sa_family_t svm_family;
  uint16_t svm_reserved1;
  uint32_t svm_port, svm_cid;
  uint8_t svm_flags, svm_zero[3];
};
enum { SO_VM_SOCKETS_CONNECT_TIMEOUT = 8 };  // takes a struct timeval with 64-bit fields
_Static_assert(sizeof(struct sockaddr_vm) == sizeof(struct sockaddr), "the kernel expects 16 bytes");

// The parent's end of the heartbeat, as defined by the Nitro Enclaves command line tools.
enum { kParentCid = 3, kHeartbeatPort = 9000, kHeartbeatByte = 0xB7 };

// By default the kernel abandons a vsock connection after 2 s, too early for an emulated parent under load; a parent
// that has not answered within this time never will.
enum { kHeartbeatTimeoutSeconds = 20 };

// How long the console may take to print queued output before the reboot: 4096 characters at 115200 baud need 0.4 s.
enum { kConsoleDrainMilliseconds = 2000 };

// Searched first for a command without a slash, whatever the image's environment says.
static const char kDefaultPath[] = "/sbin:/usr/sbin:/bin:/usr/bin";

static char kShell[] = "sh";
static char kDefaultPathVariable[] = "PATH=/sbin:/usr/sbin:/bin:/usr/bin";
static char* default_argv[] = {kShell, NULL};
static char* default_envp[] = {kDefaultPathVariable, NULL};

// Prints "init: MESSAGE" in one write, so that output of other processes cannot interleave. Control characters, which
// can only come from the image, are shown as '?'.
__attribute__((format(printf, 1, 2))) static void say(const char* format, ...) {
  static const char prefix[] = "init: ";
  char line[1024];
  memcpy(line, prefix, sizeof prefix);
  va_list arguments;
  va_start(arguments, format);
  size_t room = sizeof line - sizeof prefix;  // leaves one byte for the newline
  int wanted = vsnprintf(line + sizeof prefix - 1, room, format, arguments);
  va_end(arguments);
  size_t length = sizeof prefix - 1;
  if (wanted > 0) length += (size_t)wanted < room ? (size_t)wanted : room - 1;
  for (size_t i = 0; i < length; i++) {
    if ((unsigned char)line[i] < ' ' || line[i] == 0x7f) line[i] = '?';
  }
  line[length++] = '\n';
  for (size_t done = 0; done < length;) {
    ssize_t n = write(STDERR_FILENO, line + done, length - done);
    if (n <= 0) return;
    done += (size_t)n;
  }
}

// Waits, for a limited time, until the console has printed everything: a reboot discards queued output.
static void drain_console(void) {
  const struct timespec pause_time = {.tv_nsec = 1000000};
  for (int i = 0; i < kConsoleDrainMilliseconds; i++) {
    int queued = 0;
    if (ioctl(STDERR_FILENO, TIOCOUTQ, &queued) < 0) return;
    if (queued == 0) {
      tcdrain(STDERR_FILENO);  // the few characters inside the serial port; the driver limits this wait
      return;
    }
    nanosleep(&pause_time, NULL);
  }
}

// The command line of enclaves has reboot=k: a reset by the keyboard controller. On a machine without one, the kernel
// tries for 1.4 s and then jumps to the firmware, which may start the enclave again; on such a machine, use a triple
// fault instead.
static void choose_reset(void) {
#ifdef __x86_64__
  enum { kKeyboardStatusPort = 0x64, kNobodyThere = 0xFF };
  if (ioperm(kKeyboardStatusPort, 1, 1) < 0 || inb(kKeyboardStatusPort) != kNobodyThere) return;
  mkdir("/sys", 0755);
  mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);  // it is there unless we end early
  int fd = open("/sys/kernel/reboot/type", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (write(fd, "triple", 6) < 0) {
    // An older kernel: it will take the slow path
  }
  close(fd);
#endif
}

_Noreturn static void end_enclave(void) {
  choose_reset();
  drain_console();
  reboot(RB_AUTOBOOT);
  say("reboot failed: %s; terminate the enclave from its parent", strerror(errno));
  for (;;) pause();
}

// For unrecoverable errors. `remedy` tells the reader of the console what to do.
__attribute__((format(printf, 2, 3))) _Noreturn static void fail(const char* remedy, const char* format, ...) {
  char what[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(what, sizeof what, format, arguments);
  va_end(arguments);
  say("%s; %s; the enclave ends", what, remedy);
  end_enclave();
}

static const char kImageRemedy[] = "build the enclave image again";
static const char kKernelRemedy[] = "use the kernel that belongs to this init";

// ---- File systems -------------------------------------------------------------------------------------------------

struct Mount {
  const char *source, *target, *type, *options;
  unsigned long flags;
};

enum { kNoSuidExec = MS_NOSUID | MS_NOEXEC, kRestricted = MS_NODEV | MS_NOSUID | MS_NOEXEC };

static const struct Mount dev_mount = {"dev", "/dev", "devtmpfs", NULL, kNoSuidExec};

// File systems that a container expects, besides /dev. Missing targets are created.
static const struct Mount container_mounts[] = {
    {"proc", "/proc", "proc", NULL, kRestricted},
    {"tmpfs", "/run", "tmpfs", "mode=0755", kRestricted},
    {"tmpfs", "/tmp", "tmpfs", NULL, kRestricted},
    {"shm", "/dev/shm", "tmpfs", NULL, kRestricted},
    {"devpts", "/dev/pts", "devpts", NULL, kNoSuidExec},
    {"sysfs", "/sys", "sysfs", NULL, kRestricted},
    {"cgroup_root", "/sys/fs/cgroup", "tmpfs", "mode=0755", kRestricted},
};

static const struct {
  const char *path, *target;
} dev_links[] = {
    {"/dev/fd", "/proc/self/fd"},
    {"/dev/stdin", "/proc/self/fd/0"},
    {"/dev/stdout", "/proc/self/fd/1"},
    {"/dev/stderr", "/proc/self/fd/2"},
};

// Returns 0 or an errno. A target that already has this file system counts as mounted: kernels with
// CONFIG_DEVTMPFS_MOUNT mount /dev before us.
static int try_mount(const struct Mount* m) {
  if (mkdir(m->target, 0755) < 0 && errno != EEXIST) return errno;
  if (mount(m->source, m->target, m->type, m->flags, m->options) < 0 && errno != EBUSY) return errno;
  return 0;
}

static void mount_or_fail(const struct Mount* m) {
  int error = try_mount(m);
  if (error != 0) fail(kKernelRemedy, "mounting %s on %s failed: %s", m->type, m->target, strerror(error));
}

// Mounts every enabled cgroup (version 1) controller of the kernel on /sys/fs/cgroup/NAME. A controller that cannot be
// mounted is reported and skipped: the kernel may support it in version 2 only.
static void mount_cgroups(void) {
  static const char list[] = "/proc/cgroups";
  FILE* file = fopen(list, "re");
  if (file == NULL) {
    say("reading %s failed: %s; ignored because most programs need no cgroups", list, strerror(errno));
    return;
  }
  char line[256];
  while (fgets(line, sizeof line, file) != NULL) {
    char name[64];
    int enabled = 0;
    if (line[0] == '#' || sscanf(line, "%63s %*d %*d %d", name, &enabled) != 2 || !enabled) continue;
    char target[128];
    snprintf(target, sizeof target, "/sys/fs/cgroup/%s", name);
    const struct Mount m = {name, target, "cgroup", name, kRestricted};
    int error = try_mount(&m);
    if (error != 0)
      say("mounting cgroup controller %s failed: %s; ignored because few programs need it", name, strerror(error));
  }
  fclose(file);
}

static void mount_container_file_systems(void) {
  mount_or_fail(&dev_mount);
  for (size_t i = 0; i < sizeof dev_links / sizeof dev_links[0]; i++) {
    if (symlink(dev_links[i].target, dev_links[i].path) < 0 && errno != EEXIST) {
      fail(kKernelRemedy, "linking %s failed: %s", dev_links[i].path, strerror(errno));
    }
  }
  for (size_t i = 0; i < sizeof container_mounts / sizeof container_mounts[0]; i++) mount_or_fail(&container_mounts[i]);
  mount_cgroups();
}

// Makes /rootfs the root of everything. The root of an initramfs can be neither unmounted nor passed to pivot_root, so
// /rootfs becomes a mount that is moved over it.
static void enter_container_root(void) {
  static const char root[] = "/rootfs";
  const char* step;
  if ((step = "bind", mount(root, root, NULL, MS_BIND, NULL)) < 0 || (step = "chdir", chdir(root)) < 0 ||
      (step = "move", mount(".", "/", NULL, MS_MOVE, NULL)) < 0 || (step = "chroot", chroot(".")) < 0 ||
      (step = "chdir", chdir("/")) < 0) {
    fail(kImageRemedy, "making %s the root failed (%s): %s", root, step, strerror(errno));
  }
}

// ---- Console, NSM, heartbeat --------------------------------------------------------------------------------------

// Standard input, output and error become /dev/console. Without a console (the kernel has no driver for what console=
// names) the enclave runs on silently.
static void open_console(void) {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
    int flags = (fd == STDIN_FILENO ? O_RDONLY : O_WRONLY) | O_NOCTTY | O_CLOEXEC;
    int opened = open("/dev/console", flags);
    if (opened < 0) opened = open("/dev/null", flags);
    if (opened < 0) continue;
    if (opened == fd) {
      fcntl(fd, F_SETFD, 0);
    } else {
      dup2(opened, fd);  // the copy is not close-on-exec
      close(opened);
    }
  }
}

// Loads the driver of the Nitro Security Module, if the bootstrap ramdisk has it.
static void load_nsm_driver(void) {
  static const char module[] = "/nsm.ko";
  int fd = open(module, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return;
    fail(kImageRemedy, "opening %s failed: %s", module, strerror(errno));
  }
  if (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST) {
    fail("use the nsm.ko that was built with this kernel", "loading %s failed: %s", module, strerror(errno));
  }
  close(fd);
  unlink(module);  // only returns memory; a file that stays does no harm
  if (access("/dev/nsm", F_OK) < 0) {
    say("no Nitro Security Module on this machine: /dev/nsm is missing, attestation will not work");
  }
}

// Tells the parent that the enclave has booted: one byte, which it sends back.
static void send_heartbeat(void) {
  static const char remedy[] = "see whether the program that started the enclave still listens on its vsock port 9000";
  int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail(kKernelRemedy, "heartbeat: opening a vsock socket failed: %s", strerror(errno));

  const struct timeval timeout = {.tv_sec = kHeartbeatTimeoutSeconds};
  setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &timeout, sizeof timeout);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);

  const struct sockaddr_vm parent = {.svm_family = AF_VSOCK, .svm_cid = kParentCid, .svm_port = kHeartbeatPort};
  if (connect(fd, (const struct sockaddr*)&parent, sizeof parent) < 0) {
    if (errno == ENODEV) {
      fail("give the enclave a vsock device", "heartbeat: the machine has no vsock device");
    }
    fail(remedy, "heartbeat: connecting to the parent (vsock CID %d, port %d) failed: %s", kParentCid, kHeartbeatPort,
         strerror(errno));
  }
  unsigned char byte = kHeartbeatByte;
  if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1) fail(remedy, "heartbeat: sending failed: %s", strerror(errno));
  ssize_t n = recv(fd, &byte, 1, 0);
  if (n < 0) fail(remedy, "heartbeat: no answer from the parent: %s", strerror(errno));
  if (n == 0) fail(remedy, "heartbeat: the parent closed the connection without an answer");
  if (byte != kHeartbeatByte) {
    fail(remedy, "heartbeat: the parent answered 0x%02X instead of 0x%02X", byte, kHeartbeatByte);
  }
  close(fd);
}

// ---- The command --------------------------------------------------------------------------------------------------

// Reads the lines of `path` into an array that ends with NULL, and removes the file. Returns NULL for a file without
// lines. Each line is one entry, unchanged, even if it is empty; the newline after the last one is optional.
static char** read_lines(const char* path) {
  FILE* file = fopen(path, "re");
  if (file == NULL) fail(kImageRemedy, "opening %s failed: %s", path, strerror(errno));
  char** lines = NULL;
  size_t count = 0, capacity = 0;
  for (;;) {
    char* line = NULL;
    size_t size = 0;
    errno = 0;
    ssize_t length = getline(&line, &size, file);
    if (length < 0) {
      if (errno != 0) fail(kImageRemedy, "reading %s failed: %s", path, strerror(errno));
      free(line);
      break;
    }
    if (line[length - 1] == '\n') line[--length] = '\0';
    if (strlen(line) != (size_t)length) fail(kImageRemedy, "line %zu of %s contains a zero byte", count + 1, path);
    if (count + 2 > capacity) {
      capacity = capacity == 0 ? 16 : capacity * 2;
      lines = realloc(lines, capacity * sizeof *lines);
      if (lines == NULL) fail("give the enclave more memory", "reading %s failed: no memory", path);
    }
    lines[count++] = line;
    lines[count] = NULL;
  }
  fclose(file);
  unlink(path);
  return lines;
}

static const char* variable(char* const* environment, const char* name) {
  size_t length = strlen(name);
  for (; *environment != NULL; environment++) {
    if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=') return *environment + length + 1;
  }
  return NULL;
}

// Runs in the child. The default path is searched first, then the image's own.
_Noreturn static void execute(char** argv, char** envp) {
  setenv("PATH", kDefaultPath, 1);
  execvpe(argv[0], argv, envp);
  const char* image_path = variable(envp, "PATH");
  if (errno == ENOENT && image_path != NULL && strchr(argv[0], '/') == NULL) {
    setenv("PATH", image_path, 1);
    execvpe(argv[0], argv, envp);
  }
  // The exit statuses of shells: 127 for a command that does not exist, 126 for one that cannot be run.
  int error = errno;
  say("cannot run '%.200s': %s; see the command (CMD, ENTRYPOINT) of the container image", argv[0], strerror(error));
  _exit(error == ENOENT ? 127 : 126);
}

// Starts the command in its own session, with no signal blocked. It has no controlling terminal.
static pid_t start(char** argv, char** envp) {
  pid_t pid = fork();
  if (pid < 0) fail("give the enclave more memory", "starting '%.200s' failed: %s", argv[0], strerror(errno));
  if (pid > 0) return pid;
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  setsid();
  execute(argv, envp);
}

// Waits for signals, all of which are blocked: reaps children that have ended, and forwards every other signal to the
// command. Returns the wait status of `command`.
static int supervise(pid_t command) {
  sigset_t all;
  sigfillset(&all);
  for (;;) {
    siginfo_t info;
    int signal_number = sigwaitinfo(&all, &info);
    if (signal_number < 0) continue;
    if (signal_number != SIGCHLD) {
      kill(command, signal_number);
      continue;
    }
    // One SIGCHLD can stand for several children.
    for (;;) {
      int status;
      pid_t pid = waitpid(-1, &status, WNOHANG);
      if (pid == command) return status;
      if (pid <= 0) break;
    }
  }
}

int main(void) {
  if (getpid() != 1) {
    static const char text[] = "init: this is the first process of an enclave; it does nothing elsewhere\n";
    return write(STDERR_FILENO, text, sizeof text - 1) < 0 ? 2 : 1;
  }
  // Blocked signals stay pending for supervise(). A child resets this in start().
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, NULL);

  int dev_error = try_mount(&dev_mount);
  open_console();
  if (dev_error != 0) {
    fail(kKernelRemedy, "mounting %s on %s failed: %s", dev_mount.type, dev_mount.target, strerror(dev_error));
  }
  load_nsm_driver();
  send_heartbeat();

  char** envp = read_lines("/env");
  char** argv = read_lines("/cmd");
  if (envp == NULL) envp = default_envp;
  if (argv == NULL) argv = default_argv;

  enter_container_root();
  mount_container_file_systems();

  int status = supervise(start(argv, envp));
  if (WIFSIGNALED(status)) {
    int signal_number = WTERMSIG(status);
    say("'%.200s' was ended by signal %d (%s); the enclave ends", argv[0], signal_number, strsignal(signal_number));
  } else {
    say("'%.200s' exited with status %d; the enclave ends", argv[0], WEXITSTATUS(status));
  }
  end_enclave();
}
