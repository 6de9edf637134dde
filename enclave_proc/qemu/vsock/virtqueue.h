// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "enclave_proc/qemu/vsock/guest_memory.h"
#include "nitro/fd.h"

namespace nitro::proc {

/// Feature bits of the ring itself (virtio 1.2, section 6 "Reserved Feature Bits").
inline constexpr std::uint64_t kFeatureRingEventIndex = std::uint64_t{1} << 29;
inline constexpr std::uint64_t kFeatureVersion1 = std::uint64_t{1} << 32;

/// One chain of buffers that the driver has made available. The pieces point into guest memory, which the guest may
/// change meanwhile.
struct DescriptorChain {
  std::uint16_t head = 0;
  /// False: the chain violates a rule (an address outside memory, a loop, an index past the table, …); return it
  /// unused.
  bool valid = false;
  std::vector<iovec> readable;  ///< buffers that the driver has written
  std::vector<iovec> writable;  ///< buffers that the device may fill
};

/// The device's end of a split virtqueue (virtio 1.2, section 2.7). All three parts lie in guest memory: nothing read
/// from them is trusted. Indirect descriptors are not offered to the driver, so one counts as a broken chain. Passive:
/// the owner calls pop() and complete(), then publish() once per batch. Used from one thread.
class Virtqueue {
 public:
  static constexpr std::uint64_t kDescriptorSize = 16;
  static constexpr std::uint64_t descriptor_table_bytes(std::uint32_t size) { return kDescriptorSize * size; }
  static constexpr std::uint64_t available_ring_bytes(std::uint32_t size) { return 6 + std::uint64_t{2} * size; }
  static constexpr std::uint64_t used_ring_bytes(std::uint32_t size) { return 6 + std::uint64_t{8} * size; }

  struct Layout {
    std::uint16_t size = 0;            ///< a power of two
    std::span<std::byte> descriptors;  ///< descriptor_table_bytes(size), aligned to 16 bytes
    std::span<std::byte> available;    ///< available_ring_bytes(size), aligned to 2 bytes
    std::span<std::byte> used;         ///< used_ring_bytes(size), aligned to 4 bytes
    std::uint16_t next_available = 0;  ///< where to continue in the available ring
    bool event_index = false;          ///< VIRTIO_F_EVENT_IDX was negotiated
  };

  /// Returns nullopt unless sizes and alignments are as described above. `memory` must outlive the queue.
  static std::optional<Virtqueue> create(const Layout& layout, const GuestMemory& memory);

  enum class Popped {
    kChain,   ///< `chain` was filled; return it with complete() or put_back()
    kEmpty,   ///< the driver has made nothing available
    kBroken,  ///< the ring's indexes are invalid; the queue is dead until it is set up again
  };
  Popped pop(DescriptorChain& chain);
  /// Undoes the last `count` pops of kChain, which must not have been completed.
  void put_back(std::uint16_t count) { next_available_ = static_cast<std::uint16_t>(next_available_ - count); }
  /// Returns a chain with `written` bytes filled in its writable part. The driver sees it after publish().
  void complete(std::uint16_t head, std::uint32_t written);
  /// Shows the driver all completed chains, and signals `call_fd` (an eventfd; -1: none) if the driver wants that.
  void publish(int call_fd);

  /// Asks the driver not to kick. Only a hint.
  void disable_kicks();
  /// Asks for a kick with the next chain. Returns true when a chain is already there: it will not cause a kick.
  [[nodiscard]] bool enable_kicks();

  [[nodiscard]] bool broken() const { return !why_broken_.empty(); }
  /// What was invalid; empty unless broken().
  [[nodiscard]] const std::string& why_broken() const { return why_broken_; }
  [[nodiscard]] std::uint16_t size() const { return layout_.size; }
  [[nodiscard]] std::uint16_t next_available() const { return next_available_; }

 private:
  Virtqueue(const Layout& layout, const GuestMemory& memory);
  void walk(DescriptorChain& chain) const;

  Layout layout_;
  const GuestMemory* memory_;
  std::uint16_t next_available_;
  std::uint16_t next_used_;       // where complete() writes
  std::uint16_t published_used_;  // what the driver can see
  std::string why_broken_;
};

}  // namespace nitro::proc
