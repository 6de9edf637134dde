// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "nitro/result.h"

namespace nitro {

/// Owns one memory mapping and unmaps it once.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Mapping& operator=(Mapping other) noexcept {
    std::swap(address_, other.address_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Mapping();

  /// mmap(2), with its `protection` and `flags`; `fd` is borrowed and may be closed afterwards. Sizes in bytes.
  static Result<Mapping> map(int fd, std::size_t size_bytes, int protection, int flags, std::uint64_t offset_bytes = 0);

  [[nodiscard]] std::span<std::byte> bytes() const { return {static_cast<std::byte*>(address_), size_}; }
  [[nodiscard]] bool valid() const { return address_ != nullptr; }

 private:
  Mapping(void* address, std::size_t size) : address_(address), size_(size) {}

  void* address_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace nitro
