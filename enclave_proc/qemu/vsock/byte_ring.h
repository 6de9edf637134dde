// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>

namespace nitro::proc {

/// A byte queue with a fixed capacity. It allocates with the first byte and frees on release(); pages that were never
/// written cost nothing.
class ByteRing {
 public:
  explicit ByteRing(std::size_t capacity_bytes) : capacity_(capacity_bytes) {}

  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::size_t room() const { return capacity_ - size_; }

  /// Takes as many bytes as fit; returns how many.
  std::size_t push(std::span<const std::byte> bytes) {
    if (!bytes_) bytes_ = std::make_unique_for_overwrite<std::byte[]>(capacity_);
    const std::size_t count = std::min(bytes.size(), room());
    const std::size_t end = (start_ + size_) % capacity_;
    const std::size_t first = std::min(count, capacity_ - end);
    if (first > 0) std::memcpy(bytes_.get() + end, bytes.data(), first);
    if (count > first) std::memcpy(bytes_.get(), bytes.data() + first, count - first);
    size_ += count;
    return count;
  }

  /// Returns all bytes, oldest first, in at most two pieces (the second may be empty). Valid until the next change.
  [[nodiscard]] std::array<iovec, 2> pieces() const {
    const std::size_t first = std::min(size_, capacity_ - start_);
    return {iovec{bytes_.get() + start_, first}, iovec{bytes_.get(), size_ - first}};
  }

  /// Discards the oldest `count` bytes, at most size().
  void pop(std::size_t count) {
    start_ = (start_ + count) % capacity_;
    size_ -= count;
  }

  /// Empties the ring and frees its memory.
  void release() {
    bytes_.reset();
    start_ = 0;
    size_ = 0;
  }

 private:
  std::size_t capacity_;
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t start_ = 0;
  std::size_t size_ = 0;
};

}  // namespace nitro::proc
