// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "eif/image/extent.h"

namespace nitro::image {

/// Bytes that can be read once, from first to last.
class ByteStream {
 public:
  ByteStream() = default;
  ByteStream(const ByteStream&) = delete;
  ByteStream& operator=(const ByteStream&) = delete;
  virtual ~ByteStream() = default;

  /// Fills `buffer` with the next bytes and returns how many there were; fewer than requested only at the end.
  virtual Result<std::size_t> read(std::span<std::byte> buffer) = 0;
  /// Skips the next bytes and returns how many there were; fewer than requested only at the end.
  virtual Result<std::uint64_t> skip(std::uint64_t size_bytes) = 0;
};

/// The bytes of an extent. Skipped bytes are not read.
class ExtentStream : public ByteStream {
 public:
  explicit ExtentStream(Extent extent) : extent_(std::move(extent)) {}
  Result<std::size_t> read(std::span<std::byte> buffer) override;
  Result<std::uint64_t> skip(std::uint64_t size_bytes) override;

 private:
  Extent extent_;
  std::uint64_t position_ = 0;
};

}  // namespace nitro::image
