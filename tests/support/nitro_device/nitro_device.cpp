// SPDX-License-Identifier: Apache-2.0
// A stand-in for the Nitro Enclaves driver, huge pages and AF_VSOCK under an unmodified program: a shared library for
// LD_PRELOAD (or to link against) that takes the place of a few functions of the C library. It keeps the rules of
// linux/nitro_enclaves.h as the driver does, and writes down what was asked of it. README.md beside this file tells how
// it is configured and what the trace looks like.
//
// How it is made:
//  - Everything that is not for the stand-in goes on to the kernel through syscall(2). Looking up the replaced
//  functions
//    (dlsym) would need memory while mmap itself is being replaced.
//  - Descriptors are real ones, so that poll, epoll, read and fork work on them untouched: a memory file for the CPU
//    pool, a Unix socket for a vsock socket, the read end of a pipe for an enclave.
//  - An enclave that has been started is a process of its own, which sends the heartbeat and holds the write end of
//  that
//    pipe: when it ends, the descriptor reports a hang-up as the driver's does.
//  - Every process has a machine to itself: CPUs and pages that one took are still there for the next.
//  - Only the C library is used, so that it does not matter which C++ library the program has, and where.
#include "nitro_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nitro_enclaves.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

namespace {

constexpr const char* kDevicePath = "/dev/nitro_enclaves";
constexpr const char* kPoolPath = "/sys/module/nitro_enclaves/parameters/ne_cpus";
constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kRegionAlignment = 2 * kMiB;  // ne_misc_dev.h, NE_MIN_MEM_REGION_SIZE
constexpr uint64_t kMinimumMemory = 64 * kMiB;   // ne_misc_dev.h, NE_MIN_ENCLAVE_MEM_SIZE
constexpr uint64_t kImageOffset = 8 * kMiB;      // ne_misc_dev.h, NE_EIF_LOAD_OFFSET
constexpr uint64_t kParentCid = 3;               // ne_misc_dev.h, NE_PARENT_VM_CID
constexpr uint32_t kHeartbeatPort = 9000;
constexpr int kMostFds = 4096;
constexpr unsigned kMostCpus = 1024;
constexpr unsigned kMostPages = 65536;
constexpr unsigned kMostRegions = 65536;
constexpr unsigned kMostEnclaves = 16;

enum class Kind : unsigned char { kOther, kDevice, kEnclave, kVsock };
enum class Beat { kRight, kWrong, kNone, kHangup };

struct Span {
  uint64_t start;
  uint64_t size;
};

struct Enclave {
  int fd;      // -1: free
  int life;    // the enclave's process ends when this write end is closed; -1 before the start
  int hangup;  // write end of the pipe whose read end is fd; -1 once the enclave's process holds it
  bool started;
  uint64_t uid;
  uint64_t memory;
  unsigned region_count;
  unsigned cpu_count;
  bool has_cpu[kMostCpus];
  bool has_core[kMostCpus];
};

struct Machine {
  bool ready;
  char pool_text[512];
  bool in_pool[kMostCpus];
  bool free_core[kMostCpus];  // by the number of the core: the CPU's number divided by threads_per_core
  unsigned threads_per_core;
  unsigned last_cpu;
  uint64_t free_1g;
  uint64_t free_2m;
  unsigned most_regions;
  uint64_t image_offset;
  bool create_answers_zero;
  char trace[256];
  char image[256];
  char name[64];
  const char* failures;
  const char* delays;
  unsigned calls[9];
  Beat beat;
  double beat_delay;
  unsigned enclave_cid;  // of the enclave that was started last
  double crash_after;    // negative: never
  double timer_part;     // 1: timers take the time that they are set to
};

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
Machine machine;
Kind kinds[kMostFds];
Span pages[kMostPages];
unsigned page_count;
Span regions[kMostRegions];  // of the enclave that is being set up; one at a time is enough
int regions_of = -1;
Enclave enclaves[kMostEnclaves];

class Guard {
 public:
  Guard() { pthread_mutex_lock(&lock); }
  ~Guard() { pthread_mutex_unlock(&lock); }
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;
};

/// Sets errno and is the -1 that goes with it.
int failed(int number) {
  errno = number;
  return -1;
}

// --- what the kernel does for everybody else
// ---------------------------------------------------------------------------

int system_openat(int folder, const char* path, int flags, mode_t mode) {
  return static_cast<int>(syscall(SYS_openat, folder, path, flags, mode));
}
int system_close(int fd) {
  return static_cast<int>(syscall(SYS_close, fd));
}
/// Closes all descriptors from `first` to `last`; -1: to the end.
void close_all(int first, int last) {
  if (last == -1 || first <= last)
    syscall(SYS_close_range, static_cast<unsigned>(first), static_cast<unsigned>(last), 0);
}
int system_munmap(void* address, size_t size) {
  return static_cast<int>(syscall(SYS_munmap, address, size));
}
void* system_mmap(void* address, size_t size, int protection, int flags, int fd, off_t offset) {
  // syscall(2) returns a long where mmap(2) returns an address.
  return reinterpret_cast<void*>(syscall(SYS_mmap, address, size, protection, flags, fd, offset));
}

// --- trace
// -------------------------------------------------------------------------------------------------------------

__attribute__((format(printf, 1, 2))) void trace(const char* format, ...) {
  if (machine.trace[0] == '\0') return;
  char line[256];
  va_list arguments;
  va_start(arguments, format);
  int size = vsnprintf(line, sizeof line - 1, format, arguments);
  va_end(arguments);
  if (size < 0) return;
  if (size > static_cast<int>(sizeof line) - 2) size = sizeof line - 2;
  line[size++] = '\n';
  const int kept = errno;
  const int fd = system_openat(AT_FDCWD, machine.trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd >= 0) {
    // One write, so that lines of several processes do not mix.
    if (write(fd, line, static_cast<size_t>(size)) < 0)
      system_close(fd);
    else
      system_close(fd);
  }
  errno = kept;
}

// --- configuration
// -----------------------------------------------------------------------------------------------------

const char* setting(const char* name, const char* otherwise) {
  const char* value = getenv(name);
  return value != nullptr ? value : otherwise;
}

void copy_setting(char* target, size_t size, const char* name, const char* otherwise) {
  snprintf(target, size, "%s", setting(name, otherwise));
}

void parse_pool(const char* text) {
  while (*text != '\0') {
    char* end = nullptr;
    const unsigned long from = strtoul(text, &end, 10);
    unsigned long to = from;
    if (end == text) break;
    if (*end == '-') to = strtoul(end + 1, &end, 10);
    for (unsigned long id = from; id <= to && id < kMostCpus; ++id) {
      machine.in_pool[id] = true;
      machine.free_core[id / machine.threads_per_core] = true;
      if (id > machine.last_cpu) machine.last_cpu = static_cast<unsigned>(id);
    }
    text = *end == ',' ? end + 1 : end;
  }
}

/// Reads the environment when the first call comes; main() may have changed it until then.
void prepare() {
  if (machine.ready) return;
  machine.ready = true;
  for (Enclave& enclave : enclaves) enclave.fd = -1;
  machine.threads_per_core = static_cast<unsigned>(atoi(setting("NITRO_DEVICE_THREADS_PER_CORE", "1")));
  if (machine.threads_per_core == 0) machine.threads_per_core = 1;
  copy_setting(machine.pool_text, sizeof machine.pool_text, "NITRO_DEVICE_CPU_POOL", "1-3");
  parse_pool(machine.pool_text);
  machine.free_1g = strtoull(setting("NITRO_DEVICE_PAGES_1G", "0"), nullptr, 10);
  machine.free_2m = strtoull(setting("NITRO_DEVICE_PAGES_2M", "1024"), nullptr, 10);
  machine.most_regions = static_cast<unsigned>(atoi(setting("NITRO_DEVICE_REGIONS", "4096")));
  if (machine.most_regions > kMostRegions) machine.most_regions = kMostRegions;
  copy_setting(machine.trace, sizeof machine.trace, "NITRO_DEVICE_TRACE", "");
  copy_setting(machine.image, sizeof machine.image, "NITRO_DEVICE_IMAGE", "");
  copy_setting(machine.name, sizeof machine.name, "NITRO_DEVICE_NAME", "nitro");
  machine.failures = setting("NITRO_DEVICE_FAIL", "");
  machine.delays = setting("NITRO_DEVICE_DELAY", "");
  const char* beat = setting("NITRO_DEVICE_HEARTBEAT", "right");
  machine.beat = Beat::kRight;
  if (strcmp(beat, "wrong") == 0) machine.beat = Beat::kWrong;
  if (strcmp(beat, "none") == 0) machine.beat = Beat::kNone;
  if (strcmp(beat, "hangup") == 0) machine.beat = Beat::kHangup;
  machine.beat_delay = atof(setting("NITRO_DEVICE_HEARTBEAT_DELAY", "0"));
  machine.image_offset = strtoull(setting("NITRO_DEVICE_IMAGE_OFFSET", "8"), nullptr, 10) * kMiB;
  machine.create_answers_zero = strcmp(setting("NITRO_DEVICE_CREATE_ANSWER", "fd"), "0") == 0;
  machine.crash_after = atof(setting("NITRO_DEVICE_CRASH_AFTER", "-1"));
  machine.timer_part = atof(setting("NITRO_DEVICE_TIMERS", "1"));
}

double seconds_of(const timespec& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

timespec time_of(double seconds) {
  const auto whole = static_cast<time_t>(seconds);
  return {.tv_sec = whole, .tv_nsec = static_cast<long>((seconds - static_cast<double>(whole)) * 1e9)};
}

/// What `plan` has for the `number`th call: CALL=VALUE for each, CALL@NTH=VALUE for one, several with commas. Null when
/// it has nothing.
const char* planned(const char* plan, const char* call, unsigned number) {
  const size_t length = strlen(call);
  for (const char* item = plan; item != nullptr && *item != '\0';) {
    const char* next = strchr(item, ',');
    if (strncmp(item, call, length) == 0 && (item[length] == '=' || item[length] == '@')) {
      const char* equals = strchr(item, '=');
      const bool this_one = item[length] == '=' || strtoul(item + length + 1, nullptr, 10) == number;
      if (equals != nullptr && this_one) return equals + 1;
    }
    item = next != nullptr ? next + 1 : nullptr;
  }
  return nullptr;
}

/// Lets this call take as long as NITRO_DEVICE_DELAY says, as the driver's calls do that nothing can interrupt. Returns
/// the errno that NITRO_DEVICE_FAIL has for it, which is written down then, or 0.
int planned_failure(const char* call, unsigned index) {
  const unsigned number = ++machine.calls[index];
  if (const char* delay = planned(machine.delays, call, number); delay != nullptr) {
    timespec left = time_of(atof(delay));
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
  }
  const char* failure = planned(machine.failures, call, number);
  if (failure == nullptr) return 0;
  const int error = atoi(failure);
  trace("%s -> errno %d", call, error);
  return error;
}

Kind kind_of(int fd) {
  return fd >= 0 && fd < kMostFds ? kinds[fd] : Kind::kOther;
}

/// Notes what `fd` is; a descriptor that cannot be noted is given back.
int remember(int fd, Kind kind) {
  if (fd >= kMostFds) {
    system_close(fd);
    return failed(EMFILE);
  }
  if (fd >= 0) kinds[fd] = kind;
  return fd;
}

// --- files
// -------------------------------------------------------------------------------------------------------------

int open_device(int flags) {
  if (const int error = planned_failure("OPEN", 0); error != 0) return failed(error);
  trace("OPEN %s", kDevicePath);
  // A file that the processes of one made-up machine share, and those of no other: it may be locked.
  const char* file = machine.trace[0] != '\0' ? machine.trace : "/dev/null";
  return remember(system_openat(AT_FDCWD, file, O_RDWR | (flags & O_CLOEXEC), 0), Kind::kDevice);
}

/// A file with the pool's list, as sysfs shows it: with a newline.
int open_pool(int flags) {
  if (strcmp(machine.pool_text, "missing") == 0) return failed(ENOENT);
  const int fd = memfd_create("ne_cpus", (flags & O_CLOEXEC) != 0 ? MFD_CLOEXEC : 0U);
  if (fd < 0) return -1;
  char text[sizeof machine.pool_text + 1];
  const int size = snprintf(text, sizeof text, "%s\n", machine.pool_text);
  if (size < 0 || write(fd, text, static_cast<size_t>(size)) != size || lseek(fd, 0, SEEK_SET) != 0) {
    system_close(fd);
    return failed(EIO);
  }
  return fd;
}

int open_any(int folder, const char* path, int flags, mode_t mode) {
  if (path != nullptr && path[0] == '/') {
    const Guard guard;
    prepare();
    if (strcmp(path, kDevicePath) == 0) return open_device(flags);
    if (strcmp(path, kPoolPath) == 0) return open_pool(flags);
  }
  return system_openat(folder, path, flags, mode);
}

mode_t mode_argument(int flags, va_list arguments) {
  return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(arguments, mode_t) : 0;
}

// --- huge pages
// --------------------------------------------------------------------------------------------------------

uint64_t* free_pages(uint64_t page_size) {
  if (page_size == 1024 * kMiB) return &machine.free_1g;
  if (page_size == 2 * kMiB) return &machine.free_2m;
  return nullptr;
}

void* map_huge(size_t size, int protection, int flags) {
  const int shift = (flags >> MAP_HUGE_SHIFT) & MAP_HUGE_MASK;
  const uint64_t page_size = shift == 0 ? 2 * kMiB : uint64_t{1} << shift;
  uint64_t* available = free_pages(page_size);
  const uint64_t wanted = (size + page_size - 1) / page_size;
  const bool enough = available != nullptr && *available >= wanted && page_count < kMostPages;
  trace("MMAP huge page=%lluM len=%lluM%s", static_cast<unsigned long long>(page_size / kMiB),
        static_cast<unsigned long long>(size / kMiB), enough ? "" : " -> ENOMEM");
  if (!enough) {
    errno = ENOMEM;
    return MAP_FAILED;
  }
  // Huge pages begin at multiples of their size: take more room than is needed and give the ends back.
  const uint64_t length = wanted * page_size;
  void* room = system_mmap(nullptr, length + page_size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (room == MAP_FAILED) return MAP_FAILED;
  const auto begin = reinterpret_cast<uintptr_t>(room);  // arithmetic on addresses of the kernel
  const uint64_t start = (begin + page_size - 1) / page_size * page_size;
  if (start > begin) system_munmap(room, start - begin);
  if (begin + page_size > start) system_munmap(reinterpret_cast<void*>(start + length), begin + page_size - start);
  *available -= wanted;
  pages[page_count++] = {start, length};
  return reinterpret_cast<void*>(start);
}

void give_back(uint64_t start) {
  for (unsigned i = 0; i < page_count; ++i) {
    if (pages[i].start != start) continue;
    const uint64_t page_size = pages[i].size % (1024 * kMiB) == 0 ? 1024 * kMiB : 2 * kMiB;
    *free_pages(page_size) += pages[i].size / page_size;
    pages[i] = pages[--page_count];
    return;
  }
}

/// Whether `start` … `start + size` lies in huge pages.
bool in_huge_pages(uint64_t start, uint64_t size) {
  uint64_t covered = 0;
  for (unsigned i = 0; i < page_count; ++i) {
    const uint64_t from = pages[i].start > start ? pages[i].start : start;
    const uint64_t page_end = pages[i].start + pages[i].size;
    const uint64_t to = page_end < start + size ? page_end : start + size;
    if (from < to) covered += to - from;
  }
  return covered == size;
}

// --- the enclave, once it has been started
// -------------------------------------------------------------------------------

/// The name that stands for a vsock address: an abstract Unix socket. Returns the length for bind and connect.
socklen_t unix_name(sockaddr_un* address, unsigned cid, unsigned port) {
  memset(address, 0, sizeof *address);
  address->sun_family = AF_UNIX;
  const int length =
      snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "nitro-device:%s:%u:%u", machine.name, cid, port);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<size_t>(length));
}

double now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return seconds_of(time);
}

/// Waits until `end`; ends the process when the enclave's owner closes its descriptor or dies.
void live_until(int life, double end) {
  while (true) {
    const double left = end - now();
    if (left <= 0) return;
    pollfd waiting{.fd = life, .events = 0, .revents = 0};
    poll(&waiting, 1, left > 60 ? 60000 : static_cast<int>(left * 1000) + 1);
    if ((waiting.revents & (POLLHUP | POLLERR)) != 0) _exit(0);
  }
}

void send_heartbeat(int life) {
  sockaddr_un address;
  const socklen_t length = unix_name(&address, kParentCid, kHeartbeatPort);
  const int fd = static_cast<int>(syscall(SYS_socket, AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // So that the other end can see who connects.
  sockaddr_un own;
  const socklen_t own_length = unix_name(&own, machine.enclave_cid, static_cast<unsigned>(getpid()));
  if (fd < 0 || syscall(SYS_bind, fd, &own, own_length) != 0 || syscall(SYS_connect, fd, &address, length) != 0) {
    trace("HEARTBEAT found nobody");
    return;
  }
  if (machine.beat == Beat::kHangup) {
    system_close(fd);
    trace("HEARTBEAT sent nothing");
    return;
  }
  const unsigned char sent = machine.beat == Beat::kWrong ? 0x42 : 0xb7;
  unsigned char got = 0;
  pollfd waiting[2] = {{.fd = fd, .events = POLLIN, .revents = 0}, {.fd = life, .events = 0, .revents = 0}};
  bool answered = send(fd, &sent, 1, MSG_NOSIGNAL) == 1 && poll(waiting, 2, 10000) > 0;
  answered = answered && recv(fd, &got, 1, MSG_DONTWAIT) == 1;
  if (!answered)
    trace("HEARTBEAT sent %02x got nothing", sent);
  else if (got == sent)
    trace("HEARTBEAT sent %02x got the same back", sent);
  else
    trace("HEARTBEAT sent %02x got %02x", sent, got);
  system_close(fd);
}

/// The process of an enclave. `life`: its owner holds the other end. `hangup`: what its owner's descriptor watches.
/// Comes from a fork of a program that may have threads: only system calls here, and formatting into local buffers.
[[noreturn]] void be_enclave(int life, int hangup) {
  const double begin = now();
  // Nothing of the program may be held open here, above all not its listening socket.
  const int lower = life < hangup ? life : hangup;
  const int upper = life < hangup ? hangup : life;
  if (lower > 0) close_all(0, lower - 1);
  close_all(lower + 1, upper - 1);
  close_all(upper + 1, -1);
  if (machine.beat != Beat::kNone) {
    live_until(life, begin + machine.beat_delay);
    send_heartbeat(life);
  }
  if (machine.crash_after < 0) live_until(life, begin + 1e9);
  live_until(life, begin + machine.crash_after);
  trace("ENCLAVE crashed");
  system_close(hangup);
  // Not before its owner has let go: a real slot stays too.
  live_until(life, begin + 1e9);
  _exit(0);
}

/// Writes the enclave's memory from the image's place on to a file, without what is zero at the end.
void save_image() {
  const int fd = system_openat(AT_FDCWD, machine.image, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return;
  constexpr uint64_t kStep = 4096;
  static const char zeros[kStep] = {};
  uint64_t position = 0;
  const Enclave* enclave = nullptr;
  for (const Enclave& candidate : enclaves)
    if (candidate.fd == regions_of) enclave = &candidate;
  for (unsigned i = 0; enclave != nullptr && i < enclave->region_count; ++i) {
    for (uint64_t at = 0; at < regions[i].size; at += kStep, position += kStep) {
      const void* step = reinterpret_cast<const void*>(regions[i].start + at);  // an address the program handed over
      if (position < kImageOffset || memcmp(step, zeros, kStep) == 0) continue;
      if (pwrite(fd, step, kStep, static_cast<off_t>(position - kImageOffset)) < 0) break;
    }
  }
  system_close(fd);
}

int begin_enclave(Enclave& enclave) {
  int life[2];
  if (pipe2(life, O_CLOEXEC) != 0) return -1;
  const pid_t middle = fork();
  if (middle < 0) {
    const int error = errno;
    system_close(life[0]);
    system_close(life[1]);
    return failed(error);
  }
  if (middle == 0) {
    // A second fork: the program must not find a child that it has not started.
    if (fork() == 0) {
      system_close(life[1]);
      be_enclave(life[0], enclave.hangup);
    }
    _exit(0);
  }
  while (waitpid(middle, nullptr, 0) < 0 && errno == EINTR) {
  }
  system_close(life[0]);
  system_close(enclave.hangup);
  enclave.hangup = -1;
  enclave.life = life[1];
  return 0;
}

// --- the driver's calls (ne_misc_dev.c)
// ----------------------------------------------------------------------------------

Enclave* find_enclave(int fd) {
  for (Enclave& enclave : enclaves)
    if (enclave.fd == fd) return &enclave;
  return nullptr;
}

unsigned core_of(unsigned cpu) {
  return cpu / machine.threads_per_core;
}

int create_vm(uint64_t* uid) {
  if (const int error = planned_failure("CREATE_VM", 1); error != 0) return failed(error);
  trace("CREATE_VM");
  if (machine.create_answers_zero) return 0;
  bool any = false;
  for (const bool available : machine.free_core) any = any || available;
  if (!any) return failed(NE_ERR_NO_CPUS_AVAIL_IN_POOL);
  Enclave* enclave = find_enclave(-1);
  if (enclave == nullptr) return failed(ENOSPC);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
  if (remember(ends[0], Kind::kEnclave) < 0) {
    system_close(ends[1]);
    return -1;
  }
  static unsigned long long created = 0;
  memset(enclave, 0, sizeof *enclave);
  enclave->fd = ends[0];
  enclave->hangup = ends[1];
  enclave->life = -1;
  // Different for each process: file names are made of it.
  enclave->uid = 0x1234500000000000ULL | static_cast<uint64_t>(getpid()) << 8 | ++created;
  *uid = enclave->uid;
  regions_of = ends[0];
  return ends[0];
}

/// Takes the core of `cpu` out of the pool for `enclave`, unless it has it.
int take_core(Enclave& enclave, unsigned cpu, int otherwise) {
  const unsigned core = core_of(cpu);
  if (enclave.has_core[core]) return 0;
  if (!machine.in_pool[cpu] || !machine.free_core[core]) return otherwise;
  machine.free_core[core] = false;
  enclave.has_core[core] = true;
  return 0;
}

/// A CPU of a core that the enclave has; else the first of a core that is free. 0: none.
unsigned choose_cpu(const Enclave& enclave) {
  for (unsigned cpu = 1; cpu < kMostCpus; ++cpu)
    if (machine.in_pool[cpu] && enclave.has_core[core_of(cpu)] && !enclave.has_cpu[cpu]) return cpu;
  for (unsigned cpu = 1; cpu < kMostCpus; ++cpu)
    if (machine.in_pool[cpu] && machine.free_core[core_of(cpu)]) return cpu;
  return 0;
}

int add_vcpu(Enclave& enclave, uint32_t* id) {
  if (const int error = planned_failure("ADD_VCPU", 2); error != 0) return failed(error);
  const uint32_t asked = *id;
  int error = 0;
  uint32_t cpu = asked;
  if (enclave.started) {
    error = NE_ERR_NOT_IN_INIT_STATE;
  } else if (asked >= kMostCpus) {
    error = NE_ERR_INVALID_VCPU;
  } else if (asked == 0) {
    cpu = choose_cpu(enclave);
    error = cpu == 0 ? NE_ERR_NO_CPUS_AVAIL_IN_POOL : take_core(enclave, cpu, NE_ERR_NO_CPUS_AVAIL_IN_POOL);
  } else if (enclave.has_cpu[cpu]) {
    error = NE_ERR_VCPU_ALREADY_USED;
  } else {
    error = take_core(enclave, cpu, NE_ERR_VCPU_NOT_IN_CPU_POOL);
  }
  if (error != 0) {
    trace("ADD_VCPU %u -> errno %d", asked, error);
    return failed(error);
  }
  enclave.has_cpu[cpu] = true;
  ++enclave.cpu_count;
  *id = cpu;
  trace("ADD_VCPU %u -> %u", asked, cpu);
  return 0;
}

int get_image_load_info(const Enclave& enclave, ne_image_load_info* info) {
  if (const int error = planned_failure("GET_IMAGE_LOAD_INFO", 3); error != 0) return failed(error);
  trace("GET_IMAGE_LOAD_INFO flags=%llu", info->flags);
  if (enclave.started) return failed(NE_ERR_NOT_IN_INIT_STATE);
  if (info->flags == 0 || info->flags >= NE_IMAGE_LOAD_MAX_FLAG_VAL) return failed(NE_ERR_INVALID_FLAG_VALUE);
  info->memory_offset = machine.image_offset;
  return 0;
}

int check_region(const Enclave& enclave, const ne_user_memory_region& region) {
  if (region.flags >= NE_MEMORY_REGION_MAX_FLAG_VAL) return NE_ERR_INVALID_FLAG_VALUE;
  if (enclave.started) return NE_ERR_NOT_IN_INIT_STATE;
  if (region.memory_size % kRegionAlignment != 0) return NE_ERR_INVALID_MEM_REGION_SIZE;
  if (region.userspace_addr % kRegionAlignment != 0) return NE_ERR_UNALIGNED_MEM_REGION_ADDR;
  if (region.userspace_addr == 0 || region.userspace_addr + region.memory_size < region.userspace_addr)
    return NE_ERR_INVALID_MEM_REGION_ADDR;
  for (unsigned i = 0; regions_of == enclave.fd && i < enclave.region_count; ++i) {
    if (regions[i].start < region.userspace_addr + region.memory_size &&
        region.userspace_addr < regions[i].start + regions[i].size) {
      return NE_ERR_MEM_REGION_ALREADY_USED;
    }
  }
  if (region.memory_size == 0 || !in_huge_pages(region.userspace_addr, region.memory_size))
    return NE_ERR_MEM_NOT_HUGE_PAGE;
  if (enclave.region_count >= machine.most_regions) return NE_ERR_MEM_MAX_REGIONS;
  return 0;
}

int set_user_memory_region(Enclave& enclave, const ne_user_memory_region& region) {
  if (const int error = planned_failure("SET_USER_MEMORY_REGION", 4); error != 0) return failed(error);
  const int error = check_region(enclave, region);
  if (error != 0) {
    trace("SET_USER_MEMORY_REGION flags=%llu size=%lluM -> errno %d", region.flags, region.memory_size / kMiB, error);
    return failed(error);
  }
  trace("SET_USER_MEMORY_REGION flags=%llu size=%lluM", region.flags, region.memory_size / kMiB);
  if (enclave.region_count == 0 && region.memory_size > kImageOffset) {
    // An address that the program handed over, and that lies in its huge pages.
    const auto* image = reinterpret_cast<const unsigned char*>(region.userspace_addr + kImageOffset);
    trace("IMAGE at %lluM: %02x%02x%02x%02x", static_cast<unsigned long long>(kImageOffset / kMiB), image[0], image[1],
          image[2], image[3]);
  }
  if (regions_of == enclave.fd) regions[enclave.region_count] = {region.userspace_addr, region.memory_size};
  ++enclave.region_count;
  enclave.memory += region.memory_size;
  return 0;
}

int check_start(const Enclave& enclave, const ne_enclave_start_info& info) {
  if (info.flags >= NE_ENCLAVE_START_MAX_FLAG_VAL) return NE_ERR_INVALID_FLAG_VALUE;
  if ((info.enclave_cid > 0 && info.enclave_cid <= kParentCid) || info.enclave_cid >= UINT32_MAX)
    return NE_ERR_INVALID_ENCLAVE_CID;
  if (enclave.started) return NE_ERR_NOT_IN_INIT_STATE;
  if (enclave.region_count == 0) return NE_ERR_NO_MEM_REGIONS_ADDED;
  if (enclave.memory < kMinimumMemory) return NE_ERR_ENCLAVE_MEM_MIN_SIZE;
  if (enclave.cpu_count == 0) return NE_ERR_NO_VCPUS_ADDED;
  for (unsigned cpu = 0; cpu < kMostCpus; ++cpu)
    if (machine.in_pool[cpu] && enclave.has_core[core_of(cpu)] && !enclave.has_cpu[cpu])
      return NE_ERR_FULL_CORES_NOT_USED;
  return 0;
}

int start_enclave(Enclave& enclave, ne_enclave_start_info* info) {
  if (const int error = planned_failure("START", 5); error != 0) return failed(error);
  const int error = check_start(enclave, *info);
  char result[32] = "";
  if (error != 0) snprintf(result, sizeof result, " -> errno %d", error);
  trace("START_ENCLAVE flags=%llu cid=%llu vcpus=%u mem=%lluM%s", info->flags, info->enclave_cid, enclave.cpu_count,
        static_cast<unsigned long long>(enclave.memory / kMiB), result);
  if (error != 0) return failed(error);
  if (machine.image[0] != '\0') save_image();
  if (info->enclave_cid == 0) info->enclave_cid = 16;
  machine.enclave_cid = static_cast<unsigned>(info->enclave_cid);
  if (begin_enclave(enclave) != 0) return -1;
  enclave.started = true;
  return 0;
}

void release_enclave(int fd) {
  Enclave* enclave = find_enclave(fd);
  if (enclave == nullptr) return;
  if (enclave->life >= 0) system_close(enclave->life);
  if (enclave->hangup >= 0) system_close(enclave->hangup);
  for (unsigned core = 0; core < kMostCpus; ++core)
    if (enclave->has_core[core]) machine.free_core[core] = true;
  if (regions_of == fd) regions_of = -1;
  enclave->fd = -1;
}

/// `argument` is what the kernel would copy from and to.
int driver_call(int fd, unsigned long request, void* argument) {
  if (argument == nullptr) return failed(EFAULT);
  if (kind_of(fd) == Kind::kDevice)
    return request == NE_CREATE_VM ? create_vm(static_cast<uint64_t*>(argument)) : failed(ENOTTY);
  Enclave* enclave = find_enclave(fd);
  if (enclave == nullptr) return failed(EBADF);
  switch (request) {
    case NE_ADD_VCPU:
      return add_vcpu(*enclave, static_cast<uint32_t*>(argument));
    case NE_GET_IMAGE_LOAD_INFO:
      return get_image_load_info(*enclave, static_cast<ne_image_load_info*>(argument));
    case NE_SET_USER_MEMORY_REGION:
      return set_user_memory_region(*enclave, *static_cast<const ne_user_memory_region*>(argument));
    case NE_START_ENCLAVE:
      return start_enclave(*enclave, static_cast<ne_enclave_start_info*>(argument));
    default:
      return failed(ENOTTY);
  }
}

/// Abstract Unix sockets are names of the whole machine, so each made-up machine has its own: gives the address that
/// stands for `address`, or 0 when it is not an abstract name. Returns its length.
socklen_t own_abstract_name(const sockaddr* address, socklen_t size, sockaddr_un* own) {
  const auto* name = reinterpret_cast<const sockaddr_un*>(address);  // as below
  if (size <= offsetof(sockaddr_un, sun_path) + 1 || name->sun_family != AF_UNIX || name->sun_path[0] != '\0') return 0;
  // FNV-1a; the name itself may be as long as there is room.
  uint64_t hash = 0xcbf29ce484222325;
  for (size_t i = 1; i < size - offsetof(sockaddr_un, sun_path); ++i)
    hash = (hash ^ static_cast<unsigned char>(name->sun_path[i])) * 0x100000001b3;
  memset(own, 0, sizeof *own);
  own->sun_family = AF_UNIX;
  const int length = snprintf(own->sun_path + 1, sizeof own->sun_path - 1, "nitro-device:%s:unix:%016llx", machine.name,
                              static_cast<unsigned long long>(hash));
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + static_cast<size_t>(length));
}

/// sockaddr(3type): addresses of every family come through one pointer type.
const sockaddr_vm* vsock_address(const sockaddr* address) {
  return reinterpret_cast<const sockaddr_vm*>(address);
}

}  // namespace

// --- the functions of the C library that are replaced
// ----------------------------------------------------------------------

extern "C" {

void nitro_device_reset() {
  const Guard guard;
  machine = Machine{};
  page_count = 0;
  regions_of = -1;
}

unsigned long long nitro_device_free_pages(unsigned page_mib) {
  const Guard guard;
  prepare();
  const uint64_t* count = free_pages(page_mib * kMiB);
  return count != nullptr ? *count : 0;
}

unsigned nitro_device_free_cpus() {
  const Guard guard;
  prepare();
  unsigned count = 0;
  for (unsigned cpu = 0; cpu < kMostCpus; ++cpu)
    count += machine.in_pool[cpu] && machine.free_core[core_of(cpu)] ? 1U : 0U;
  return count;
}

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_any(AT_FDCWD, path, flags, mode);
}
int open64(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_any(AT_FDCWD, path, flags, mode);
}
int openat(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_any(folder, path, flags, mode);
}
int openat64(int folder, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = mode_argument(flags, arguments);
  va_end(arguments);
  return open_any(folder, path, flags, mode);
}
// What open and openat become under _FORTIFY_SOURCE.
int __open_2(const char* path, int flags) {
  return open_any(AT_FDCWD, path, flags, 0);
}
int __open64_2(const char* path, int flags) {
  return open_any(AT_FDCWD, path, flags, 0);
}
int __openat_2(int folder, const char* path, int flags) {
  return open_any(folder, path, flags, 0);
}
int __openat64_2(int folder, const char* path, int flags) {
  return open_any(folder, path, flags, 0);
}

static FILE* open_stream(const char* path, const char* mode) {
  const bool writes = strpbrk(mode, "wa+") != nullptr;
  int flags = writes ? O_RDWR | O_CREAT : O_RDONLY;
  if (strchr(mode, '+') == nullptr && writes) flags = O_WRONLY | O_CREAT;
  if (mode[0] == 'r') flags &= ~O_CREAT;
  if (mode[0] == 'w') flags |= O_TRUNC;
  if (mode[0] == 'a') flags |= O_APPEND;
  if (strchr(mode, 'e') != nullptr) flags |= O_CLOEXEC;
  if (strchr(mode, 'x') != nullptr) flags |= O_EXCL;
  const int fd = open_any(AT_FDCWD, path, flags, 0666);
  if (fd < 0) return nullptr;
  FILE* stream = fdopen(fd, mode);
  if (stream == nullptr) system_close(fd);
  return stream;
}
FILE* fopen(const char* path, const char* mode) {
  return open_stream(path, mode);
}
FILE* fopen64(const char* path, const char* mode) {
  return open_stream(path, mode);
}

int close(int fd) {
  if (kind_of(fd) != Kind::kOther) {
    const Guard guard;
    if (kinds[fd] == Kind::kEnclave) release_enclave(fd);
    kinds[fd] = Kind::kOther;
  }
  return system_close(fd);
}

int ioctl(int fd, unsigned long request, ...) noexcept {
  va_list arguments;
  va_start(arguments, request);
  void* argument = va_arg(arguments, void*);
  va_end(arguments);
  const Kind kind = kind_of(fd);
  if (kind == Kind::kDevice || kind == Kind::kEnclave) {
    const Guard guard;
    prepare();
    return driver_call(fd, request, argument);
  }
  return static_cast<int>(syscall(SYS_ioctl, fd, request, argument));
}

static void* map_any(void* address, size_t size, int protection, int flags, int fd, off_t offset) {
  if ((flags & MAP_HUGETLB) != 0 && fd == -1) {
    const Guard guard;
    prepare();
    return map_huge(size, protection, flags);
  }
  return system_mmap(address, size, protection, flags, fd, offset);
}
void* mmap(void* address, size_t size, int protection, int flags, int fd, off_t offset) noexcept {
  return map_any(address, size, protection, flags, fd, offset);
}
void* mmap64(void* address, size_t size, int protection, int flags, int fd, off64_t offset) noexcept {
  return map_any(address, size, protection, flags, fd, offset);
}
int munmap(void* address, size_t size) noexcept {
  if (page_count > 0) {
    const Guard guard;
    give_back(reinterpret_cast<uintptr_t>(address));  // the key of the table
  }
  return system_munmap(address, size);
}

int socket(int family, int type, int protocol) noexcept {
  if (family != AF_VSOCK) return static_cast<int>(syscall(SYS_socket, family, type, protocol));
  const Guard guard;
  prepare();
  return remember(static_cast<int>(syscall(SYS_socket, AF_UNIX, type, 0)), Kind::kVsock);
}

int bind(int fd, const sockaddr* address, socklen_t size) noexcept {
  const Guard guard;
  prepare();
  if (kind_of(fd) != Kind::kVsock) {
    sockaddr_un own;
    const socklen_t own_size = own_abstract_name(address, size, &own);
    if (own_size > 0) return static_cast<int>(syscall(SYS_bind, fd, &own, own_size));
    return static_cast<int>(syscall(SYS_bind, fd, address, size));
  }
  if (const int error = planned_failure("VSOCK", 6); error != 0) return failed(error);
  const sockaddr_vm* wanted = vsock_address(address);
  trace("VSOCK bind %u:%u", wanted->svm_cid, wanted->svm_port);
  sockaddr_un name;
  const socklen_t length = unix_name(&name, wanted->svm_cid, wanted->svm_port);
  return static_cast<int>(syscall(SYS_bind, fd, &name, length));
}

int connect(int fd, const sockaddr* address, socklen_t size) {
  {
    const Guard guard;
    prepare();
  }
  sockaddr_un name;
  if (kind_of(fd) != Kind::kVsock) {
    const socklen_t own_size = own_abstract_name(address, size, &name);
    if (own_size > 0) return static_cast<int>(syscall(SYS_connect, fd, &name, own_size));
    return static_cast<int>(syscall(SYS_connect, fd, address, size));
  }
  const sockaddr_vm* wanted = vsock_address(address);
  const socklen_t length = unix_name(&name, wanted->svm_cid, wanted->svm_port);
  if (syscall(SYS_connect, fd, &name, length) == 0) return 0;
  // A vsock port at which nobody listens answers with a reset.
  return errno == ECONNREFUSED ? failed(ECONNRESET) : -1;
}

/// The vsock address that the other end of `fd` stands for. Who has none is a program of the parent.
static sockaddr_vm vsock_peer(int fd) {
  sockaddr_un name{};
  socklen_t length = sizeof name - 1;
  sockaddr_vm peer{};
  peer.svm_family = AF_VSOCK;
  peer.svm_cid = kParentCid;
  if (syscall(SYS_getpeername, fd, &name, &length) != 0 || length <= offsetof(sockaddr_un, sun_path) + 1) return peer;
  const char* port = strrchr(name.sun_path + 1, ':');
  if (port == nullptr) return peer;
  const char* cid =
      static_cast<const char*>(memrchr(name.sun_path + 1, ':', static_cast<size_t>(port - name.sun_path - 1)));
  if (cid == nullptr) return peer;
  peer.svm_cid = static_cast<unsigned>(strtoul(cid + 1, nullptr, 10));
  peer.svm_port = static_cast<unsigned>(strtoul(port + 1, nullptr, 10));
  return peer;
}

static void give_address(const sockaddr_vm& peer, sockaddr* address, socklen_t* size) {
  memcpy(address, &peer, *size < sizeof peer ? *size : sizeof peer);
  *size = sizeof peer;
}

static int accept_any(int fd, sockaddr* address, socklen_t* size, int flags) {
  if (kind_of(fd) != Kind::kVsock) return static_cast<int>(syscall(SYS_accept4, fd, address, size, flags));
  const int accepted = static_cast<int>(syscall(SYS_accept4, fd, nullptr, nullptr, flags));
  if (accepted < 0) return accepted;
  if (address != nullptr && size != nullptr) give_address(vsock_peer(accepted), address, size);
  const Guard guard;  // not while waiting for a client
  return remember(accepted, Kind::kVsock);
}

int getpeername(int fd, sockaddr* address, socklen_t* size) noexcept {
  if (kind_of(fd) != Kind::kVsock) return static_cast<int>(syscall(SYS_getpeername, fd, address, size));
  give_address(vsock_peer(fd), address, size);
  return 0;
}

int accept4(int fd, sockaddr* address, socklen_t* size, int flags) {
  return accept_any(fd, address, size, flags);
}
int accept(int fd, sockaddr* address, socklen_t* size) {
  return accept_any(fd, address, size, 0);
}

int timerfd_settime(int fd, int flags, const itimerspec* timer, itimerspec* before) noexcept {
  itimerspec shorter = *timer;
  {
    const Guard guard;
    prepare();
    if (machine.timer_part != 1) {
      const double seconds = seconds_of(timer->it_value);
      if (seconds > 0) trace("TIMER %g s", seconds);
      shorter.it_value = time_of(seconds * machine.timer_part);
      shorter.it_interval = time_of(seconds_of(timer->it_interval) * machine.timer_part);
    }
  }
  return static_cast<int>(syscall(SYS_timerfd_settime, fd, flags, &shorter, before));
}

int setsockopt(int fd, int level, int option, const void* value, socklen_t size) noexcept {
  // Options of vsock, for example its time limit for connecting, mean nothing to the Unix socket behind it.
  if (level == AF_VSOCK && kind_of(fd) == Kind::kVsock) {
    const Guard guard;
    prepare();
    const int error = planned_failure("OPTION", 7);
    return error != 0 ? failed(error) : 0;
  }
  return static_cast<int>(syscall(SYS_setsockopt, fd, level, option, value, size));
}

}  // extern "C"
