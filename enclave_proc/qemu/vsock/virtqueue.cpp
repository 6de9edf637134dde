// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/virtqueue.h"

#include <unistd.h>

#include <atomic>
#include <bit>

#include "src/base/bytes.h"

namespace nitro::proc {
namespace {

// Flags and offsets of virtio 1.2, sections 2.7.5 to 2.7.8.
constexpr std::uint16_t kDescriptorNext = 1;
constexpr std::uint16_t kDescriptorWrite = 2;
constexpr std::uint16_t kDescriptorIndirect = 4;
constexpr std::uint16_t kAvailableNoInterrupt = 1;
constexpr std::uint16_t kUsedNoNotify = 1;
constexpr std::size_t kFlagsOffset = 0;
constexpr std::size_t kIndexOffset = 2;
constexpr std::size_t kRingOffset = 4;
constexpr std::size_t kAvailableEntry = 2;
constexpr std::size_t kUsedEntry = 8;

/// A 16-bit field that the guest's CPUs read and write at the same time.
std::atomic_ref<std::uint16_t> shared_field(std::span<std::byte> ring, std::size_t offset) {
  // The rings are raw shared memory without C++ objects; their fields are 16-bit integers at even addresses (checked in
  // create()).
  return std::atomic_ref<std::uint16_t>(*reinterpret_cast<std::uint16_t*>(ring.data() + offset));
}

std::uint16_t little(std::uint16_t value) {
  return std::endian::native == std::endian::little ? value : __builtin_bswap16(value);
}

std::uint16_t load_field(std::span<std::byte> ring, std::size_t offset, std::memory_order order) {
  return little(shared_field(ring, offset).load(order));
}

void store_field(std::span<std::byte> ring, std::size_t offset, std::uint16_t value, std::memory_order order) {
  shared_field(ring, offset).store(little(value), order);
}

bool aligned(std::span<std::byte> part, std::uintptr_t alignment) {
  // Only the numeric value is used.
  return reinterpret_cast<std::uintptr_t>(part.data()) % alignment == 0;
}

/// Whether the other side wants a notification, having asked for one when the index passes `event` (virtio 1.2, section
/// 2.7.7.2).
bool passes(std::uint16_t event, std::uint16_t before, std::uint16_t now) {
  return static_cast<std::uint16_t>(now - event - 1) < static_cast<std::uint16_t>(now - before);
}

}  // namespace

Virtqueue::Virtqueue(const Layout& layout, const GuestMemory& memory)
    : layout_(layout),
      memory_(&memory),
      next_available_(layout.next_available),
      next_used_(load_field(layout.used, kIndexOffset, std::memory_order_acquire)),
      published_used_(next_used_) {}

std::optional<Virtqueue> Virtqueue::create(const Layout& layout, const GuestMemory& memory) {
  if (!std::has_single_bit(layout.size)) return std::nullopt;
  if (layout.descriptors.size() != descriptor_table_bytes(layout.size) || !aligned(layout.descriptors, 16) ||
      layout.available.size() != available_ring_bytes(layout.size) || !aligned(layout.available, 2) ||
      layout.used.size() != used_ring_bytes(layout.size) || !aligned(layout.used, 4)) {
    return std::nullopt;
  }
  return Virtqueue(layout, memory);
}

Virtqueue::Popped Virtqueue::pop(DescriptorChain& chain) {
  if (broken()) return Popped::kBroken;
  const std::uint16_t index = load_field(layout_.available, kIndexOffset, std::memory_order_acquire);
  const auto waiting = static_cast<std::uint16_t>(index - next_available_);
  if (waiting == 0) return Popped::kEmpty;
  // A driver cannot have more chains outstanding than the table has descriptors.
  if (waiting > layout_.size) {
    why_broken_ = std::to_string(waiting) + " chains are available at once, of " + std::to_string(layout_.size);
    return Popped::kBroken;
  }
  const std::size_t slot = next_available_ % layout_.size;
  const std::uint16_t head =
      load_field(layout_.available, kRingOffset + kAvailableEntry * slot, std::memory_order_relaxed);
  if (head >= layout_.size) {
    why_broken_ = "descriptor " + std::to_string(head) + ", of " + std::to_string(layout_.size);
    return Popped::kBroken;
  }
  next_available_ = static_cast<std::uint16_t>(next_available_ + 1);
  chain.head = head;
  chain.readable.clear();
  chain.writable.clear();
  walk(chain);
  return Popped::kChain;
}

void Virtqueue::walk(DescriptorChain& chain) const {
  chain.valid = false;
  std::uint16_t index = chain.head;
  // A chain visits no descriptor twice, so it is at most as long as the table; this also stops loops.
  for (std::uint32_t step = 0; step < layout_.size; ++step) {
    // One copy, so that the checked values are the ones used.
    std::byte copy[kDescriptorSize];
    const auto descriptor = layout_.descriptors.subspan(kDescriptorSize * index, kDescriptorSize);
    std::copy(descriptor.begin(), descriptor.end(), copy);
    const std::span<const std::byte> fields(copy);
    const auto address = load_le<std::uint64_t>(fields);
    const auto length = load_le<std::uint32_t>(fields.subspan(8));
    const auto flags = load_le<std::uint16_t>(fields.subspan(12));
    const auto next = load_le<std::uint16_t>(fields.subspan(14));

    if ((flags & kDescriptorIndirect) != 0) return;
    const bool for_writing = (flags & kDescriptorWrite) != 0;
    // virtio 1.2, section 2.7.4.2: the buffers that the device writes follow all that it reads.
    if (!for_writing && !chain.writable.empty()) return;
    if (!memory_->append(address, length, for_writing ? chain.writable : chain.readable)) return;
    if ((flags & kDescriptorNext) == 0) {
      chain.valid = true;
      return;
    }
    if (next >= layout_.size) return;
    index = next;
  }
}

void Virtqueue::complete(std::uint16_t head, std::uint32_t written) {
  const std::size_t slot = next_used_ % layout_.size;
  const auto entry = layout_.used.subspan(kRingOffset + kUsedEntry * slot, kUsedEntry);
  store_le<std::uint32_t>(entry, head);
  store_le<std::uint32_t>(entry.subspan(4), written);
  next_used_ = static_cast<std::uint16_t>(next_used_ + 1);
}

void Virtqueue::publish(int call_fd) {
  if (next_used_ == published_used_) return;
  store_field(layout_.used, kIndexOffset, next_used_, std::memory_order_release);
  // The driver writes its event index, then reads our index; we write our index, then read its event index. Without a
  // full barrier each could miss the other's write.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  bool wanted = false;
  if (layout_.event_index) {
    const std::size_t used_event = kRingOffset + kAvailableEntry * layout_.size;
    wanted = passes(load_field(layout_.available, used_event, std::memory_order_relaxed), published_used_, next_used_);
  } else {
    const std::uint16_t flags = load_field(layout_.available, kFlagsOffset, std::memory_order_relaxed);
    wanted = (flags & kAvailableNoInterrupt) == 0;
  }
  published_used_ = next_used_;
  if (!wanted || call_fd < 0) return;
  const std::uint64_t one = 1;
  // Fails only when the counter is full (then the interrupt is pending) or the front-end passed something that is not
  // an eventfd.
  [[maybe_unused]] const ssize_t written = ::write(call_fd, &one, sizeof one);
}

void Virtqueue::disable_kicks() {
  // With event indexes, not moving avail_event has the same effect.
  if (!layout_.event_index) store_field(layout_.used, kFlagsOffset, kUsedNoNotify, std::memory_order_relaxed);
}

bool Virtqueue::enable_kicks() {
  if (layout_.event_index) {
    const std::size_t available_event = kRingOffset + kUsedEntry * layout_.size;
    store_field(layout_.used, available_event, next_available_, std::memory_order_relaxed);
  } else {
    store_field(layout_.used, kFlagsOffset, 0, std::memory_order_relaxed);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return load_field(layout_.available, kIndexOffset, std::memory_order_acquire) != next_available_;
}

}  // namespace nitro::proc
