// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/device/device.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string>
#include <string_view>

#include "enclave_proc/device/uapi.h"
#include "src/base/bytes.h"
#include "src/base/driver_absence.h"

namespace nitro::proc {
namespace {

/// The meaning of an errno of the driver, and what the user can do about it.
struct Refusal {
  int number;
  std::string_view reason;
  std::string_view advice;
};

constexpr std::string_view kFault = "this is a bug in nitro-cli; please report it";

// In the order of linux/nitro_enclaves.h; then errors that the driver passes on from the kernel and the hypervisor.
constexpr std::array kRefusals = {
    Refusal{NE_ERR_VCPU_ALREADY_USED, "the enclave already has this CPU", "name each CPU once"},
    Refusal{NE_ERR_VCPU_NOT_IN_CPU_POOL, "the CPU is not free in the pool for enclaves",
            "choose another one, or end the enclave that has it"},
    Refusal{NE_ERR_VCPU_INVALID_CPU_CORE, "the core of this CPU is not in the pool",
            "set up the pool again: it does not fit this machine"},
    Refusal{NE_ERR_INVALID_MEM_REGION_SIZE, "its size is not a multiple of 2 MiB", kFault},
    Refusal{NE_ERR_INVALID_MEM_REGION_ADDR, "its address is not usable", kFault},
    Refusal{NE_ERR_UNALIGNED_MEM_REGION_ADDR, "its address is not a multiple of 2 MiB", kFault},
    Refusal{NE_ERR_MEM_REGION_ALREADY_USED, "the enclave already has this memory", kFault},
    Refusal{NE_ERR_MEM_NOT_HUGE_PAGE, "it is not in huge pages",
            "check the huge pages in /proc/meminfo and set them up again"},
    Refusal{NE_ERR_MEM_DIFFERENT_NUMA_NODE, "it is on another NUMA node than the CPUs of the pool",
            "take huge pages and CPUs from one node, as nitro-enclaves-allocator does"},
    Refusal{NE_ERR_MEM_MAX_REGIONS, "the enclave has the maximum number of memory regions",
            "use larger huge pages, for example of 1 GiB, or less memory"},
    Refusal{NE_ERR_NO_MEM_REGIONS_ADDED, "it has no memory", kFault},
    Refusal{NE_ERR_NO_VCPUS_ADDED, "it has no CPU", "ask for at least one CPU"},
    Refusal{NE_ERR_ENCLAVE_MEM_MIN_SIZE, "it has less memory than an enclave needs", "ask for at least 64 MiB"},
    Refusal{NE_ERR_FULL_CORES_NOT_USED, "it has only some of the threads of a CPU core",
            "ask for whole cores: usually an even number of CPUs, or both siblings of each core"},
    Refusal{NE_ERR_NOT_IN_INIT_STATE, "it has already been started", kFault},
    Refusal{NE_ERR_INVALID_VCPU, "this machine has no CPU with this number", "choose one of the pool"},
    Refusal{NE_ERR_NO_CPUS_AVAIL_IN_POOL, "no CPU is left in the pool for enclaves",
            "end another enclave, or enlarge the pool with cpu_count in /etc/nitro_enclaves/allocator.yaml"},
    Refusal{NE_ERR_INVALID_PAGE_SIZE, "its pages are not multiples of 2 MiB",
            "check the huge pages in /proc/meminfo and set them up again"},
    Refusal{NE_ERR_INVALID_FLAG_VALUE, "the driver does not know the flags", "use a newer kernel"},
    Refusal{NE_ERR_INVALID_ENCLAVE_CID, "the CID is reserved, or does not fit into 32 bits",
            "choose a CID from 4 on, or let the machine choose"},
    Refusal{EFAULT, "the kernel could not read or write the arguments", kFault},
    Refusal{EINVAL, "the hypervisor rejected it",
            "check that no other enclave has the same CID, and the kernel log (dmesg)"},
    Refusal{EIO, "the device of the hypervisor failed",
            "check the kernel log (dmesg); if the problem persists, restart the instance"},
    Refusal{ENOMEM, "the kernel has no memory left for its own records", "free some memory"},
    Refusal{ENOSPC, "the hypervisor has no room for another enclave", "end another enclave"},
    Refusal{ENOTTY, "the file is not the device of the Nitro Enclaves driver", "check what /dev/nitro_enclaves is"},
    Refusal{ETIMEDOUT, "the hypervisor did not answer in time",
            "check the kernel log (dmesg); if the problem persists, restart the instance"},
    Refusal{EMFILE, "this process has reached its limit of open files", "raise the limit (ulimit -n)"},
    Refusal{ENFILE, "the machine has reached its limit of open files", "close some"},
};

/// `step`: what was attempted. Must be called before anything can change errno.
Failure refused(std::string_view step) {
  const int number = errno;
  const auto found = std::find_if(kRefusals.begin(), kRefusals.end(),
                                  [number](const Refusal& refusal) { return refusal.number == number; });
  if (found == kRefusals.end()) return fail_errno(ErrorCode::kIoctl, step, number);
  return Failure(Error(ErrorCode::kIoctl,
                       fmt::format("{}: {} (error {} of the driver); {}", step, found->reason, number, found->advice),
                       number));
}

/// One call of the driver. The arguments are structures of its kernel header, whose layout uapi.h asserts; the request
/// number encodes the size. The C library has no wrapper, hence the raw call.
template <class Argument>
int call_driver(int fd, unsigned long request, Argument& argument) {
  return ::ioctl(fd, request, &argument);
}

Result<Fd> open_device(const KernelFiles& files) {
  const std::string path = files.device();
  Fd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (fd) return fd;
  const int number = errno;
  Error error = fail_errno(ErrorCode::kFileOperation, fmt::format("opening {}", quote(path)), number).value();
  std::string advice;
  if (number == ENOENT || number == ENODEV || number == ENXIO) advice = why_no_device(files);
  if (number == EACCES || number == EPERM)
    advice = "run as root, or as a member of the group that owns the device (ne)";
  if (advice.empty()) return Failure(std::move(error));
  return Failure(Error(error.code(), fmt::format("{}: {}", error.message(), advice), number));
}

}  // namespace

std::string why_no_device(const KernelFiles& files) {
  return why_no_driver(files) + "; run-enclave --local runs the image in QEMU";
}

AllocationLock::AllocationLock(int device)
    : device_(device), taken_(::flock(device, LOCK_EX | LOCK_NB) == 0 || (errno != EWOULDBLOCK && errno != EINTR)) {}

AllocationLock::~AllocationLock() {
  // Fails where locking is not permitted; then there is nothing to unlock.
  if (taken_) ::flock(device_, LOCK_UN);
}

Result<EnclaveSlot> EnclaveSlot::create(const KernelFiles& files) {
  NITRO_TRY(Fd device, open_device(files));
  __u64 uid = 0;
  const int fd = call_driver(device.get(), NE_CREATE_VM, uid);
  if (fd < 0) return refused("creating an enclave");
  // 0 to 2 are this process's own descriptors: a driver that returns one has created nothing (ioctl(2) may return 0 for
  // success).
  if (fd <= 2) {
    return fail(ErrorCode::kInvalidEnclaveFd,
                fmt::format("creating an enclave: the driver answered {}, which cannot be "
                            "the descriptor of an enclave",
                            fd));
  }
  return EnclaveSlot(std::move(device), Fd(fd), uid);
}

Result<std::uint64_t> EnclaveSlot::image_offset() const {
  ne_image_load_info info{.flags = NE_EIF_IMAGE, .memory_offset = 0};
  if (call_driver(fd_.get(), NE_GET_IMAGE_LOAD_INFO, info) < 0) return refused("asking for the position of the image");
  return info.memory_offset;
}

Result<void> EnclaveSlot::add_memory(std::span<std::byte> region) {
  ne_user_memory_region argument{
      .flags = NE_DEFAULT_MEMORY_REGION,
      .memory_size = region.size(),
      // The kernel interface has a number where C++ has a pointer.
      .userspace_addr = reinterpret_cast<std::uintptr_t>(region.data()),
  };
  if (call_driver(fd_.get(), NE_SET_USER_MEMORY_REGION, argument) < 0) {
    return refused(fmt::format("giving {} MiB of memory to the enclave", region.size() / kMiB));
  }
  return {};
}

Result<std::uint32_t> EnclaveSlot::add_cpu(std::uint32_t id) {
  __u32 argument = id;
  if (call_driver(fd_.get(), NE_ADD_VCPU, argument) < 0) {
    return refused(id == kAnyCpu ? "giving a CPU of the pool to the enclave"
                                 : fmt::format("giving CPU {} to the enclave", id));
  }
  return argument;
}

Result<std::uint64_t> EnclaveSlot::start(std::uint64_t cid, bool debug_mode) {
  ne_enclave_start_info info{
      .flags = static_cast<__u64>(debug_mode ? NE_ENCLAVE_DEBUG_MODE : NE_ENCLAVE_PRODUCTION_MODE), .enclave_cid = cid};
  if (call_driver(fd_.get(), NE_START_ENCLAVE, info) < 0) {
    return refused(cid == 0 ? "starting the enclave" : fmt::format("starting the enclave with CID {}", cid));
  }
  return info.enclave_cid;
}

}  // namespace nitro::proc
