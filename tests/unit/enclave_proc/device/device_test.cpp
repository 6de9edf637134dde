// SPDX-License-Identifier: Apache-2.0
// The driver's calls, over the stand-in.
#include "enclave_proc/device/device.h"

#include <poll.h>

#include <filesystem>
#include <thread>

#include "enclave_proc/device/memory.h"
#include "enclave_proc/device/uapi.h"
#include "tests/unit/enclave_proc/device/standin.h"

namespace nitro::proc {
namespace {

using testing::go_on;
using testing::Standin;
using testing::TempFolder;

TEST(EnclaveSlot, AsksTheDriverInItsWords) {
  const Standin standin;
  auto slot = EnclaveSlot::create({}).value();
  EXPECT_TRUE(slot.valid());
  EXPECT_NE(slot.uid(), 0U);
  EXPECT_EQ(slot.image_offset().value(), 8 * kMiB);
  EXPECT_EQ(slot.add_cpu(kAnyCpu).value(), 1U);
  EXPECT_EQ(slot.add_cpu(3).value(), 3U);
  EXPECT_EQ(standin.trace(),
            (std::vector<std::string>{"OPEN /dev/nitro_enclaves", "CREATE_VM", "GET_IMAGE_LOAD_INFO flags=1",
                                      "ADD_VCPU 0 -> 1", "ADD_VCPU 3 -> 3"}));
}

TEST(EnclaveSlot, GivesItsCpusBackWhenItGoes) {
  const Standin standin;
  {
    auto slot = EnclaveSlot::create({}).value();
    EXPECT_OK(slot.add_cpu(2));
    EXPECT_EQ(nitro_device_free_cpus(), 2U);
    EnclaveSlot moved = std::move(slot);
    EXPECT_EQ(nitro_device_free_cpus(), 2U);
  }
  EXPECT_EQ(nitro_device_free_cpus(), 3U);
}

TEST(AllocationLock, IsTakenByOneSlotAtATime) {
  const Standin standin;
  const auto one = EnclaveSlot::create({}).value();
  const auto other = EnclaveSlot::create({}).value();
  {
    AllocationLock lock = one.allocation_lock();
    EXPECT_TRUE(lock.taken());
    EXPECT_FALSE(other.allocation_lock().taken());
    const AllocationLock moved = std::move(lock);
    EXPECT_TRUE(moved.taken());
    EXPECT_FALSE(other.allocation_lock().taken());
  }
  AllocationLock lock = other.allocation_lock();
  EXPECT_TRUE(lock.taken());
  lock = one.allocation_lock();
  // It was still the other's when it was asked for.
  EXPECT_FALSE(lock.taken());
  lock = one.allocation_lock();
  EXPECT_TRUE(lock.taken());
}

TEST(AllocationLock, IsForEverybodyWhereNothingCanBeLocked) {
  // Any error but "somebody else has it" will do.
  EXPECT_TRUE(AllocationLock(-1).taken());
  EXPECT_TRUE(AllocationLock(-1).taken());
}

TEST(EnclaveSlot, StartsAnEnclaveThatLaterHangsUp) {
  const Standin standin({{"NITRO_DEVICE_HEARTBEAT", "none"}, {"NITRO_DEVICE_CRASH_AFTER", "0.3"}});
  const auto memory = EnclaveMemory::allocate(MemorySize::from_mib(64), {}, go_on).value();
  auto slot = EnclaveSlot::create({}).value();
  for (const Mapping& region : memory.regions()) ASSERT_OK(slot.add_memory(region.bytes()));
  ASSERT_OK(slot.add_cpu(kAnyCpu));
  EXPECT_EQ(slot.start(0, false).value(), 16U);
  pollfd ended{.fd = slot.fd(), .events = 0, .revents = 0};
  EXPECT_EQ(::poll(&ended, 1, 0), 0);
  EXPECT_EQ(::poll(&ended, 1, 10000), 1);
  EXPECT_EQ(ended.revents, POLLHUP);
}

TEST(EnclaveSlot, PassesFlagsAndAddressOfTheStart) {
  const Standin standin({{"NITRO_DEVICE_HEARTBEAT", "none"}});
  const auto memory = EnclaveMemory::allocate(MemorySize::from_mib(64), {}, go_on).value();
  auto slot = EnclaveSlot::create({}).value();
  for (const Mapping& region : memory.regions()) ASSERT_OK(slot.add_memory(region.bytes()));
  ASSERT_OK(slot.add_cpu(kAnyCpu));
  EXPECT_EQ(slot.start(77, true).value(), 77U);
  EXPECT_EQ(standin.trace().back(), "START_ENCLAVE flags=1 cid=77 vcpus=1 mem=64M");
}

TEST(EnclaveSlot, SaysWhatWasRefusedWhyAndWhatToDo) {
  const Standin standin;
  auto slot = EnclaveSlot::create({}).value();
  ASSERT_OK(slot.add_cpu(1));
  const auto twice = slot.add_cpu(1);
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().code(), ErrorCode::kIoctl);
  EXPECT_EQ(twice.error().system_errno(), NE_ERR_VCPU_ALREADY_USED);
  EXPECT_EQ(
      twice.error().message(),
      "giving CPU 1 to the enclave: the enclave already has this CPU (error 256 of the driver); name each CPU once");
  EXPECT_EQ(slot.start(0, false).error().system_errno(), NE_ERR_NO_MEM_REGIONS_ADDED);
}

TEST(EnclaveSlot, HasASentenceForEveryErrorOfTheDriver) {
  for (int number = NE_ERR_VCPU_ALREADY_USED; number <= NE_ERR_INVALID_ENCLAVE_CID; ++number) {
    const std::string plan = "CREATE_VM=" + std::to_string(number);
    const Standin standin({{"NITRO_DEVICE_FAIL", plan.c_str()}});
    const auto slot = EnclaveSlot::create({});
    ASSERT_FALSE(slot);
    EXPECT_EQ(slot.error().code(), ErrorCode::kIoctl);
    EXPECT_EQ(slot.error().message().find("Unknown error"), std::string::npos) << slot.error().message();
  }
}

TEST(EnclaveSlot, NamesErrorsThatNobodyKnows) {
  const Standin standin({{"NITRO_DEVICE_FAIL", "CREATE_VM=300"}});
  EXPECT_NE(EnclaveSlot::create({}).error().message().find("300"), std::string::npos);
}

TEST(EnclaveSlot, SaysThatLocalEnclavesExistWhereThereIsNoDevice) {
  const TempFolder empty;
  const auto slot = EnclaveSlot::create({.root = empty.path()});
  ASSERT_FALSE(slot);
  EXPECT_EQ(slot.error().code(), ErrorCode::kFileOperation);
  EXPECT_EQ(slot.error().system_errno(), ENOENT);
  EXPECT_NE(slot.error().message().find("--local"), std::string::npos);
}

TEST(EnclaveSlot, RefusesAFileThatIsNotTheDevice) {
  const TempFolder folder;
  std::filesystem::create_directories(folder / "dev");
  testing::write_file(folder / "dev/nitro_enclaves", "");
  const auto slot = EnclaveSlot::create({.root = folder.path()});
  ASSERT_FALSE(slot);
  EXPECT_EQ(slot.error().code(), ErrorCode::kIoctl);
  EXPECT_EQ(slot.error().system_errno(), ENOTTY);
}

}  // namespace
}  // namespace nitro::proc
