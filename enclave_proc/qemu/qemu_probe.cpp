// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/qemu_probe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kvm.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <utility>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/environment.h"
#include "src/base/mapping.h"
#include "src/runtime/child.h"

namespace nitro::proc {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

#if defined(__aarch64__)
constexpr const char* kDefaultBinary = "qemu-system-aarch64";
#else
constexpr const char* kDefaultBinary = "qemu-system-x86_64";
#endif

constexpr std::size_t kOutputLimit = std::size_t{256} * 1024;
constexpr auto kRunTimeout = 10s;

/// A run of the binary that prints something and exits.
struct Run {
  Child child;
  Fd output;
};

Result<Run> start(std::vector<std::string> arguments, const std::optional<UserIds>& user) {
  NITRO_TRY(auto pipe, make_pipe());
  ChildOptions options;
  options.arguments = std::move(arguments);
  options.stdout_fd = pipe.second.get();
  options.stderr_fd = pipe.second.get();
  options.user = user;
  options.drop_capabilities = true;
  NITRO_TRY(Child child, Child::spawn(options));
  return Run{std::move(child), std::move(pipe.first)};
}

/// Returns all output, or nullopt when the run fails, prints too much or does not end in time.
Result<std::optional<std::string>> finish(Run run) {
  const auto deadline = Clock::now() + kRunTimeout;
  std::string text;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd waiting{run.output.get(), POLLIN, 0};
    if (left <= 0ms || text.size() > kOutputLimit) return std::nullopt;
    if (::poll(&waiting, 1, static_cast<int>(left.count())) <= 0) continue;
    std::array<char, 4096> piece;
    const ssize_t got = ::read(run.output.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(ErrorCode::kEnclaveBoot, "reading what QEMU prints");
    if (got == 0) break;
    text.append(piece.data(), static_cast<std::size_t>(got));
  }
  NITRO_TRY(const ExitStatus status, run.child.wait());
  if (!status.success()) return std::nullopt;
  return text;
}

std::vector<std::string> existing(std::vector<std::string> folders) {
  std::erase_if(folders, [](const std::string& folder) {
    std::error_code ignored;
    return !std::filesystem::is_directory(folder, ignored);
  });
  return folders;
}

#if defined(__x86_64__)

/// Runs the smallest guest: one HLT in real mode at address 0x1000 (Documentation/virt/kvm/api.rst describes every
/// call).
bool runs_a_guest(int kvm) {
  // KVM's only interface is ioctls.
  const Fd machine(::ioctl(kvm, KVM_CREATE_VM, 0));
  if (!machine) return false;
  constexpr std::uint64_t kAddress = 0x1000;
  constexpr std::size_t kPage = 4096;
  auto memory = Mapping::map(-1, kPage, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
  if (!memory) return false;
  memory->bytes()[0] = std::byte{0xf4};  // HLT
  kvm_userspace_memory_region region{};
  region.guest_phys_addr = kAddress;
  region.memory_size = kPage;
  // The kernel takes the address as a number.
  region.userspace_addr = reinterpret_cast<std::uint64_t>(memory->bytes().data());
  if (::ioctl(machine.get(), KVM_SET_USER_MEMORY_REGION, &region) != 0) return false;
  const Fd cpu(::ioctl(machine.get(), KVM_CREATE_VCPU, 0));
  if (!cpu) return false;
  const int run_size = ::ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
  if (run_size < static_cast<int>(sizeof(kvm_run))) return false;
  auto run_memory = Mapping::map(cpu.get(), static_cast<std::size_t>(run_size), PROT_READ | PROT_WRITE, MAP_SHARED);
  if (!run_memory) return false;
  kvm_sregs segments{};
  if (::ioctl(cpu.get(), KVM_GET_SREGS, &segments) != 0) return false;
  segments.cs.base = 0;
  segments.cs.selector = 0;
  if (::ioctl(cpu.get(), KVM_SET_SREGS, &segments) != 0) return false;
  kvm_regs registers{};
  registers.rip = kAddress;
  registers.rflags = 2;  // the bit that is always one
  if (::ioctl(cpu.get(), KVM_SET_REGS, &registers) != 0) return false;
  if (::ioctl(cpu.get(), KVM_RUN, 0) != 0) return false;
  // The kernel has filled in a kvm_run at the start of this mapping, which is page-aligned.
  return reinterpret_cast<const kvm_run*>(run_memory->bytes().data())->exit_reason == KVM_EXIT_HLT;
}

/// Whether the flags of the first CPU include vmx or svm.
bool cpu_has_extensions() {
  const auto text = read_text_file("/proc/cpuinfo");
  if (!text) return false;
  const std::size_t start = text->find("\nflags");
  if (start == std::string::npos) return false;
  const std::string flags = text->substr(start + 1, text->find('\n', start + 1) - start - 1) + " ";
  return flags.find(" vmx ") != std::string::npos || flags.find(" svm ") != std::string::npos;
}

#else

// On other architectures /dev/kvm exists only if the CPU started in hypervisor mode; a machine that can be created also
// runs.
bool runs_a_guest(int kvm) {
  return Fd(::ioctl(kvm, KVM_CREATE_VM, 0)).valid();
}
bool cpu_has_extensions() {
  return true;
}

#endif

}  // namespace

std::optional<QemuVersion> parse_qemu_version(std::string_view text) {
  constexpr std::string_view kPrefix = "QEMU emulator version ";
  if (!text.starts_with(kPrefix)) return std::nullopt;
  text.remove_prefix(kPrefix.size());
  QemuVersion version;
  const char* const end = text.data() + text.size();
  const auto major = std::from_chars(text.data(), end, version.major);
  if (major.ec != std::errc() || major.ptr == end || *major.ptr != '.') return std::nullopt;
  const auto minor = std::from_chars(major.ptr + 1, end, version.minor);
  if (minor.ec != std::errc()) return std::nullopt;
  return version;
}

bool lists_machine(std::string_view help, std::string_view machine) {
  while (!help.empty()) {
    const std::string_view line = help.substr(0, help.find('\n'));
    if (line.substr(0, line.find(' ')) == machine) return true;
    help.remove_prefix(std::min(help.size(), line.size() + 1));
  }
  return false;
}

Result<QemuProbe> probe_qemu(const UserChoice& choose_user) {
  QemuProbe probe;
  probe.binary = kDefaultBinary;
  // Read once, before any thread is started.
  if (const auto named = environment_variable("NITRO_CLI_QEMU")) {
    probe.binary = *named;
    // A binary that was not installed does not find its firmware.
    probe.firmware_folders = existing({"/usr/share/seabios", "/usr/share/qemu"});
  }
  const auto missing = [&probe](const Error& error) {
    return Failure(Error(ErrorCode::kEnclaveBoot,
                         fmt::format("local enclaves need QEMU {}.{} or later ({}; NITRO_CLI_QEMU names another): {}",
                                     kOldestQemu.major, kOldestQemu.minor, probe.binary, error.message()),
                         error.system_errno()));
  };
  // Run concurrently: each takes longer to load than to run. The run also shows whether the sandbox works: a QEMU
  // without it fails.
  probe.kvm = kvm_usable();
  if (choose_user) probe.user = choose_user(probe.kvm);
  auto version_run = start({probe.binary, "--version"}, probe.user);
  // CAP_SETUID is missing, or the user ID does not exist in this user namespace (setresuid(2)), or only root may access
  // the binary.
  const int refused = version_run ? 0 : version_run.error().system_errno();
  if (probe.user && (refused == EPERM || refused == EINVAL || refused == EACCES)) {
    probe.user.reset();
    version_run = start({probe.binary, "--version"}, probe.user);
  }
  if (!version_run) return missing(std::move(version_run).error());
  auto machines_run = start({probe.binary, "-sandbox", "on", "-machine", "help"}, probe.user);
  if (!machines_run) return missing(std::move(machines_run).error());

  NITRO_TRY(const auto version_text, finish(std::move(*version_run)));
  const auto version = version_text ? parse_qemu_version(*version_text) : std::nullopt;
  if (!version) return missing(Error(ErrorCode::kEnclaveBoot, "it does not report its version"));
  if (*version < kOldestQemu) {
    return missing(Error(ErrorCode::kEnclaveBoot, fmt::format("it is {}.{}", version->major, version->minor)));
  }
  NITRO_TRY(auto machines, finish(std::move(*machines_run)));
  probe.sandbox = machines.has_value();
  if (!machines) {
    NITRO_TRY(Run again, start({probe.binary, "-machine", "help"}, probe.user));
    NITRO_TRY(machines, finish(std::move(again)));
  }
  probe.nitro_enclave_machine = machines && lists_machine(*machines, "nitro-enclave");
  return probe;
}

bool kvm_usable() {
  if (!cpu_has_extensions()) return false;
  const Fd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
  return kvm.valid() && ::ioctl(kvm.get(), KVM_GET_API_VERSION, 0) == KVM_API_VERSION && runs_a_guest(kvm.get());
}

}  // namespace nitro::proc
