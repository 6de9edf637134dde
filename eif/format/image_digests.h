// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "nitro/eif/measure.h"
#include "nitro/eif/reader.h"

namespace nitro::eif {

/// Computes PCR0, PCR1 and PCR2 of an image whose sections go by once, in file order.
///
/// PCR0 hashes every measured byte and PCR1 the same bytes without the later ramdisks. Up to the second ramdisk the two
/// are one and the same hash, so PCR1 is a copy of PCR0's state taken there: no byte is hashed for more than two
/// registers. Once enough bytes have gone by, threads hash, one register's piece each at a time, and the caller helps
/// them instead of waiting: with two processors both are busy, whatever each part costs. Pieces travel in a fixed pool
/// of buffers, which bounds memory.
///
/// Driven by one thread: start_section, then for each piece acquire, fill, hash, (use,) release; finish at the end.
/// Destroying it earlier stops the threads.
class ImageDigests {
 public:
  /// Bytes of a buffer.
  static constexpr std::size_t kBufferBytes = std::size_t{256} << 10;

  class Buffer {
   public:
    [[nodiscard]] std::span<std::byte> bytes() { return {memory_.get(), kBufferBytes}; }

   private:
    friend class ImageDigests;
    std::unique_ptr<std::byte[]> memory_;
    int users_ = 0;  // the caller and the lanes that have not hashed it yet; under Shared::mutex
  };

  /// `threads`: whether threads may be used at all; a machine with one CPU never gets any. Errors: kHasher.
  static Result<ImageDigests> create(HashAlgorithm algorithm, bool threads = true);

  ImageDigests(ImageDigests&&) noexcept;
  ImageDigests& operator=(ImageDigests&&) noexcept;
  ~ImageDigests();

  /// What follows belongs to a section of this type. Sections that are not measured may be announced, too. Errors:
  /// kHasher.
  Result<void> start_section(SectionType type);
  /// Hashes what is waiting until there is a buffer that nobody uses. It is the caller's until release().
  Buffer& acquire();
  /// Hashes the first `size_bytes` of `buffer`. The caller may read the buffer meanwhile, not write.
  void hash(Buffer& buffer, std::size_t size_bytes);
  void release(Buffer& buffer);
  /// Hashes what is left. The object is used up. Errors: kHasher.
  Result<Measurements> finish();

 private:
  struct Shared;
  explicit ImageDigests(std::unique_ptr<Shared> shared);
  std::unique_ptr<Shared> shared_;
};

}  // namespace nitro::eif
