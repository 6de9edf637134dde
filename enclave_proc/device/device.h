// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "nitro/fd.h"
#include "src/base/kernel_files.h"

namespace nitro::proc {

/// Why there is no device, and what to do about it; one of the ways is a local enclave.
[[nodiscard]] std::string why_no_device(const KernelFiles& files);

/// The CPU number that makes the driver choose a CPU from its pool (linux/nitro_enclaves.h, NE_ADD_VCPU).
inline constexpr std::uint32_t kAnyCpu = 0;

/// The exclusive right among enclave processes to take memory or CPUs. Both are taken piece by piece: without the lock,
/// two processes competing for the last ones could each get a part, and both would fail.
///
/// A lock on the device file (flock(2)); the kernel releases it when the process ends. Processes that do not use it,
/// such as those of the reference, are not kept out. Where locking is not permitted, every process has the right.
class AllocationLock {
 public:
  /// Takes the lock if it is free; does not wait. `device` is borrowed and must outlive the AllocationLock.
  explicit AllocationLock(int device);
  AllocationLock(AllocationLock&& other) noexcept
      : device_(std::exchange(other.device_, -1)), taken_(std::exchange(other.taken_, false)) {}
  AllocationLock& operator=(AllocationLock other) noexcept {
    std::swap(device_, other.device_);
    std::swap(taken_, other.taken_);
    return *this;
  }
  ~AllocationLock();
  [[nodiscard]] bool taken() const { return taken_; }

 private:
  int device_ = -1;
  bool taken_ = false;
};

/// One enclave of the driver, from an empty slot to a running machine. Owns the enclave's descriptor; closing it ends
/// the enclave and returns every CPU and page (ne_misc_dev.c, ne_enclave_release).
///
/// The driver requires this order: create(), memory and CPUs in any order, start(). All calls must come from the
/// process that called create(), whose memory is used. They may block while the driver clears memory.
///
/// Errors of all functions: kIoctl when the driver refuses, with its errno (256 and above: NE_ERR_… of the kernel
/// header); the message says what was refused, why, and what to do.
class EnclaveSlot {
 public:
  EnclaveSlot() = default;

  /// Opens the device and takes a slot. Errors also: kFileOperation when the device cannot be opened, kInvalidEnclaveFd
  /// when the driver does not return a descriptor.
  static Result<EnclaveSlot> create(const KernelFiles& files);

  /// Tries to take the lock. Call it until the lock is taken, before adding memory or CPUs. The lock must not outlive
  /// the slot.
  [[nodiscard]] AllocationLock allocation_lock() const { return AllocationLock(device_.get()); }
  /// The offset in the enclave's memory at which the image must begin, in bytes.
  [[nodiscard]] Result<std::uint64_t> image_offset() const;
  /// Gives `region` to the enclave: whole huge pages, which must stay mapped as long as the slot lives. The enclave
  /// sees their content; this process must not touch them afterwards. The enclave's memory is made of the regions in
  /// the order of the calls.
  Result<void> add_memory(std::span<std::byte> region);
  /// Gives one CPU to the enclave; for kAnyCpu the driver chooses. Returns its number.
  Result<std::uint32_t> add_cpu(std::uint32_t id);
  /// Starts the enclave; for `cid` 0 the hypervisor chooses. Returns its CID.
  Result<std::uint64_t> start(std::uint64_t cid, bool debug_mode);

  /// The number by which the hypervisor knows the enclave.
  [[nodiscard]] std::uint64_t uid() const { return uid_; }
  /// Reports EPOLLHUP once a started enclave has ended. Borrowed.
  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] bool valid() const { return fd_.valid(); }

 private:
  EnclaveSlot(Fd device, Fd fd, std::uint64_t uid) : device_(std::move(device)), fd_(std::move(fd)), uid_(uid) {}

  Fd device_;
  Fd fd_;
  std::uint64_t uid_ = 0;
};

}  // namespace nitro::proc
