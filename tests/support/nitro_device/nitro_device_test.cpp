// SPDX-License-Identifier: Apache-2.0
// The stand-in keeps the rules of the driver (Linux, drivers/virt/nitro_enclaves/ne_misc_dev.c): a program that breaks
// one is told so here, and not on the first real machine.
#include "nitro_device.h"

#include <fcntl.h>
#include <linux/nitro_enclaves.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "nitro/fd.h"
#include "tests/unit/enclave_proc/device/standin.h"

namespace nitro {
namespace {

using testing::Standin;

constexpr std::size_t kPage = 2U << 20;

/// The errno of a driver's call, 0 when it succeeds. Raw calls, as these tests are about them.
template <class Argument>
int call(int fd, unsigned long request, Argument& argument) {
  return ::ioctl(fd, request, &argument) < 0 ? errno : 0;
}

/// An address as the driver takes it.
std::uint64_t number(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address);
}

class HugePages {
 public:
  explicit HugePages(std::size_t size)
      : size_(size),
        address_(::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0)) {}
  ~HugePages() {
    if (valid()) ::munmap(address_, size_);
  }
  HugePages(const HugePages&) = delete;
  HugePages& operator=(const HugePages&) = delete;
  [[nodiscard]] bool valid() const { return address_ != MAP_FAILED; }
  [[nodiscard]] std::uint64_t address() const { return number(address_); }

 private:
  std::size_t size_;
  void* address_;
};

Fd open_device() {
  return Fd(::open("/dev/nitro_enclaves", O_RDWR | O_CLOEXEC));
}

/// An enclave of the made-up driver.
struct Enclave {
  Enclave() {
    const Fd device = open_device();
    __u64 uid = 0;
    fd = Fd(::ioctl(device.get(), NE_CREATE_VM, &uid));
    EXPECT_TRUE(fd.valid());
    EXPECT_NE(uid, 0U);
  }
  int add_cpu(__u32 id) const { return call(fd.get(), NE_ADD_VCPU, id); }
  int add_memory(std::uint64_t address, std::uint64_t size, std::uint64_t flags = 0) const {
    ne_user_memory_region region{.flags = flags, .memory_size = size, .userspace_addr = address};
    return call(fd.get(), NE_SET_USER_MEMORY_REGION, region);
  }
  int start(std::uint64_t cid = 0, std::uint64_t flags = 0) const {
    ne_enclave_start_info info{.flags = flags, .enclave_cid = cid};
    return call(fd.get(), NE_START_ENCLAVE, info);
  }
  Fd fd;
};

TEST(NitroDeviceStandin, ShowsThePoolToEveryWayOfReading) {
  const Standin standin({{"NITRO_DEVICE_CPU_POOL", "2,4-5"}});
  std::string line;
  std::ifstream stream("/sys/module/nitro_enclaves/parameters/ne_cpus");
  EXPECT_TRUE(std::getline(stream, line));
  EXPECT_EQ(line, "2,4-5");
  EXPECT_EQ(read_text_file("/sys/module/nitro_enclaves/parameters/ne_cpus").value(), "2,4-5\n");
  std::FILE* file = std::fopen("/sys/module/nitro_enclaves/parameters/ne_cpus", "re");
  ASSERT_NE(file, nullptr);
  char text[16] = "";
  EXPECT_NE(std::fgets(text, sizeof text, file), nullptr);
  EXPECT_STREQ(text, "2,4-5\n");
  std::fclose(file);
}

TEST(NitroDeviceStandin, LeavesOtherFilesAlone) {
  const Standin standin;
  testing::write_file(standin / "file", "text");
  EXPECT_EQ(read_text_file(standin / "file").value(), "text");
  EXPECT_EQ(::open((standin / "none").c_str(), O_RDONLY | O_CLOEXEC), -1);
  EXPECT_EQ(errno, ENOENT);
  const Fd created(::open((standin / "new").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0640));
  struct stat status {};
  EXPECT_EQ(::fstat(created.get(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640U);
  EXPECT_TRUE(standin.trace().empty());
}

TEST(NitroDeviceStandin, KnowsTheCallsOfEachDescriptorOnly) {
  const Standin standin;
  const Fd device = open_device();
  __u32 cpu = 0;
  EXPECT_EQ(call(device.get(), NE_ADD_VCPU, cpu), ENOTTY);
  const Enclave enclave;
  __u64 uid = 0;
  EXPECT_EQ(call(enclave.fd.get(), NE_CREATE_VM, uid), ENOTTY);
  const Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_EQ(call(null.get(), NE_CREATE_VM, uid), ENOTTY);
}

TEST(NitroDeviceStandin, HandsOutTheCpusOfThePool) {
  const Standin standin({{"NITRO_DEVICE_CPU_POOL", "1,3"}});
  {
    const Enclave enclave;
    __u32 cpu = 0;
    EXPECT_EQ(call(enclave.fd.get(), NE_ADD_VCPU, cpu), 0);
    EXPECT_EQ(cpu, 1U);
    EXPECT_EQ(enclave.add_cpu(1), NE_ERR_VCPU_ALREADY_USED);
    EXPECT_EQ(enclave.add_cpu(2), NE_ERR_VCPU_NOT_IN_CPU_POOL);
    EXPECT_EQ(enclave.add_cpu(5000), NE_ERR_INVALID_VCPU);
    const Enclave other;
    EXPECT_EQ(other.add_cpu(1), NE_ERR_VCPU_NOT_IN_CPU_POOL);
    EXPECT_EQ(enclave.add_cpu(0), 0);
    EXPECT_EQ(enclave.add_cpu(0), NE_ERR_NO_CPUS_AVAIL_IN_POOL);
    const Fd device = open_device();
    __u64 uid = 0;
    EXPECT_EQ(call(device.get(), NE_CREATE_VM, uid), NE_ERR_NO_CPUS_AVAIL_IN_POOL);
  }
  EXPECT_EQ(nitro_device_free_cpus(), 2U);
}

TEST(NitroDeviceStandin, HandsOutWholeCores) {
  const Standin standin({{"NITRO_DEVICE_CPU_POOL", "2-5"}, {"NITRO_DEVICE_THREADS_PER_CORE", "2"}});
  const HugePages memory(32 * kPage);
  const Enclave enclave;
  EXPECT_EQ(enclave.add_memory(memory.address(), 32 * kPage), 0);
  EXPECT_EQ(enclave.add_cpu(5), 0);
  const Enclave other;
  EXPECT_EQ(other.add_cpu(4), NE_ERR_VCPU_NOT_IN_CPU_POOL);
  EXPECT_EQ(enclave.start(), NE_ERR_FULL_CORES_NOT_USED);
  // The driver completes a core before it takes another one.
  __u32 cpu = 0;
  EXPECT_EQ(call(enclave.fd.get(), NE_ADD_VCPU, cpu), 0);
  EXPECT_EQ(cpu, 4U);
}

TEST(NitroDeviceStandin, TakesMemoryInHugePagesOnly) {
  const Standin standin({{"NITRO_DEVICE_REGIONS", "2"}});
  const HugePages memory(8 * kPage);
  ASSERT_TRUE(memory.valid());
  EXPECT_EQ(memory.address() % kPage, 0U);
  const Enclave enclave;
  EXPECT_EQ(enclave.add_memory(memory.address(), kPage, 1), NE_ERR_INVALID_FLAG_VALUE);
  EXPECT_EQ(enclave.add_memory(memory.address(), kPage - 1), NE_ERR_INVALID_MEM_REGION_SIZE);
  EXPECT_EQ(enclave.add_memory(memory.address() + 4096, kPage), NE_ERR_UNALIGNED_MEM_REGION_ADDR);
  EXPECT_EQ(enclave.add_memory(0, kPage), NE_ERR_INVALID_MEM_REGION_ADDR);
  EXPECT_EQ(enclave.add_memory(memory.address() + 7 * kPage, 2 * kPage), NE_ERR_MEM_NOT_HUGE_PAGE);
  EXPECT_EQ(enclave.add_memory(memory.address(), 2 * kPage), 0);
  EXPECT_EQ(enclave.add_memory(memory.address() + kPage, kPage), NE_ERR_MEM_REGION_ALREADY_USED);
  EXPECT_EQ(enclave.add_memory(memory.address() + 2 * kPage, kPage), 0);
  EXPECT_EQ(enclave.add_memory(memory.address() + 3 * kPage, kPage), NE_ERR_MEM_MAX_REGIONS);
}

TEST(NitroDeviceStandin, HasTheHugePagesThatItWasGiven) {
  const Standin standin({{"NITRO_DEVICE_PAGES_2M", "3"}});
  {
    const HugePages two(2 * kPage);
    EXPECT_TRUE(two.valid());
    EXPECT_EQ(nitro_device_free_pages(2), 1U);
    const HugePages too_many(2 * kPage);
    EXPECT_FALSE(too_many.valid());
    EXPECT_EQ(errno, ENOMEM);
  }
  EXPECT_EQ(nitro_device_free_pages(2), 3U);
}

TEST(NitroDeviceStandin, TellsWhereTheImageBelongs) {
  const Standin standin;
  const Enclave enclave;
  for (const auto& [flags, error] :
       {std::pair{0U, NE_ERR_INVALID_FLAG_VALUE}, {2U, NE_ERR_INVALID_FLAG_VALUE}, {1U, 0}}) {
    ne_image_load_info info{.flags = flags, .memory_offset = 0};
    EXPECT_EQ(call(enclave.fd.get(), NE_GET_IMAGE_LOAD_INFO, info), error) << flags;
    EXPECT_EQ(info.memory_offset, error == 0 ? 8U << 20 : 0U) << flags;
  }
}

TEST(NitroDeviceStandin, StartsWhatIsCompleteAndStartsItOnce) {
  const Standin standin({{"NITRO_DEVICE_HEARTBEAT", "none"}});
  const HugePages memory(33 * kPage);
  const Enclave enclave;
  EXPECT_EQ(enclave.start(), NE_ERR_NO_MEM_REGIONS_ADDED);
  EXPECT_EQ(enclave.add_memory(memory.address(), 31 * kPage), 0);
  EXPECT_EQ(enclave.start(), NE_ERR_ENCLAVE_MEM_MIN_SIZE);
  EXPECT_EQ(enclave.add_memory(memory.address() + 31 * kPage, kPage), 0);
  EXPECT_EQ(enclave.start(), NE_ERR_NO_VCPUS_ADDED);
  EXPECT_EQ(enclave.add_cpu(2), 0);
  EXPECT_EQ(enclave.start(0, 2), NE_ERR_INVALID_FLAG_VALUE);
  for (const std::uint64_t cid : {1ULL, 2ULL, 3ULL, 0xffffffffULL, 0x100000000ULL}) {
    EXPECT_EQ(enclave.start(cid), NE_ERR_INVALID_ENCLAVE_CID) << cid;
  }
  EXPECT_EQ(enclave.start(20), 0);
  EXPECT_EQ(enclave.start(20), NE_ERR_NOT_IN_INIT_STATE);
  EXPECT_EQ(enclave.add_cpu(1), NE_ERR_NOT_IN_INIT_STATE);
  EXPECT_EQ(enclave.add_memory(memory.address() + 32 * kPage, kPage), NE_ERR_NOT_IN_INIT_STATE);
  pollfd ended{.fd = enclave.fd.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&ended, 1, 50), 0);
}

TEST(NitroDeviceStandin, FailsTheCallsThatItIsToldTo) {
  const Standin standin({{"NITRO_DEVICE_FAIL", "ADD_VCPU@2=5,START=22"}});
  const Enclave enclave;
  EXPECT_EQ(enclave.add_cpu(1), 0);
  EXPECT_EQ(enclave.add_cpu(2), 5);
  EXPECT_EQ(enclave.add_cpu(2), 0);
  EXPECT_EQ(enclave.start(), 22);
  EXPECT_EQ(standin.trace(2), (std::vector<std::string>{"ADD_VCPU 1 -> 1", "ADD_VCPU -> errno 5", "ADD_VCPU 2 -> 2",
                                                        "START -> errno 22"}));
}

TEST(NitroDeviceStandin, TakesItsTimeForTheCallsThatItIsToldTo) {
  const Standin standin({{"NITRO_DEVICE_DELAY", "GET_IMAGE_LOAD_INFO@20=0.2"}});
  const Enclave enclave;
  const auto seconds = [&enclave] {
    ne_image_load_info info{.flags = NE_EIF_IMAGE, .memory_offset = 0};
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(call(enclave.fd.get(), NE_GET_IMAGE_LOAD_INFO, info), 0);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  // Any of the others may take long on a busy machine, not all of them.
  double quickest = 1;
  for (int i = 1; i < 20; ++i) quickest = std::min(quickest, seconds());
  EXPECT_LT(quickest, 0.2);
  EXPECT_GE(seconds(), 0.2);
}

TEST(NitroDeviceStandin, LetsTimersExpireEarly) {
  const Standin standin({{"NITRO_DEVICE_TIMERS", "0.001"}});
  const Fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  const itimerspec hundred_seconds{.it_interval = {}, .it_value = {.tv_sec = 100, .tv_nsec = 500'000'000}};
  EXPECT_EQ(::timerfd_settime(timer.get(), 0, &hundred_seconds, nullptr), 0);
  pollfd expired{.fd = timer.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&expired, 1, 10000), 1);
  EXPECT_EQ(standin.trace(), (std::vector<std::string>{"TIMER 100.5 s"}));
}

/// bind and connect take every kind of address through one pointer type (sockaddr(3type)).
const sockaddr* generic(const sockaddr_vm& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

TEST(NitroDeviceStandin, CarriesVsockConnections) {
  const Standin standin;
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = 3;
  address.svm_port = 4321;
  const Fd listener(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(listener.get(), generic(address), sizeof address), 0);
  EXPECT_EQ(::listen(listener.get(), 1), 0);
  const Fd second(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(second.get(), generic(address), sizeof address), -1);
  EXPECT_EQ(errno, EADDRINUSE);
  EXPECT_EQ(::connect(second.get(), generic(address), sizeof address), 0);
  const Fd accepted(::accept(listener.get(), nullptr, nullptr));
  EXPECT_EQ(::send(second.get(), "x", 1, 0), 1);
  char byte = 0;
  EXPECT_EQ(::recv(accepted.get(), &byte, 1, 0), 1);
  EXPECT_EQ(byte, 'x');
  address.svm_port = 1;
  const Fd third(::socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::connect(third.get(), generic(address), sizeof address), -1);
  EXPECT_EQ(errno, ECONNRESET);
  EXPECT_EQ(standin.trace(), (std::vector<std::string>(2, "VSOCK bind 3:4321")));
}

TEST(NitroDeviceStandin, KeepsAbstractNamesOfOneMachineFromAnother) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path + 1, "name", 4);
  const socklen_t size = offsetof(sockaddr_un, sun_path) + 5;
  const auto* name = reinterpret_cast<const sockaddr*>(&address);  // as for vsock
  const Standin standin;
  const Fd first(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(first.get(), name, size), 0);
  const Fd second(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(second.get(), name, size), -1);
  EXPECT_EQ(errno, EADDRINUSE);
  const Standin other({{"NITRO_DEVICE_NAME", "other"}});
  EXPECT_EQ(::bind(second.get(), name, size), 0);
}

}  // namespace
}  // namespace nitro
