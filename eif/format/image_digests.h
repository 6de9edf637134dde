// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "nitro/eif/measure.h"
#include "nitro/eif/reader.h"

namespace nitro::eif {

/// Computes PCR0, PCR1 and PCR2 of an image in one pass over its sections, in file order.
///
/// PCR0 hashes every measured byte, and PCR1 the same bytes without the later ramdisks. Up to the second ramdisk they
/// are the same hash, so PCR1 is a copy of PCR0's state at that point: no byte is hashed more than twice. Once enough
/// bytes have passed, threads do the hashing, each one piece for one register at a time, and the caller helps instead
/// of waiting: with two processors both are busy, whatever each part costs. Pieces use a fixed pool of buffers, which
/// bounds memory.
///
/// Driven by one thread: start_section, then for each piece acquire, fill, hash, (use,) release; finally finish.
/// Destroying it earlier stops the threads.
class ImageDigests {
 public:
  /// Size of a buffer in bytes.
  static constexpr std::size_t kBufferBytes = std::size_t{256} << 10;

  class Buffer {
   public:
    [[nodiscard]] std::span<std::byte> bytes() { return {memory_.get(), kBufferBytes}; }

   private:
    friend class ImageDigests;
    std::unique_ptr<std::byte[]> memory_;
    int users_ = 0;  // the caller and the lanes that have not hashed it yet; protected by Shared::mutex
  };

  /// `threads`: whether threads may be used at all; a machine with one CPU never uses any. Errors: kHasher.
  static Result<ImageDigests> create(HashAlgorithm algorithm, bool threads = true);

  ImageDigests(ImageDigests&&) noexcept;
  ImageDigests& operator=(ImageDigests&&) noexcept;
  ~ImageDigests();

  /// The following bytes belong to a section of this type, which need not be a measured one. Errors: kHasher.
  Result<void> start_section(SectionType type);
  /// Hashes waiting pieces until a buffer is free. The buffer belongs to the caller until release().
  Buffer& acquire();
  /// Hashes the first `size_bytes` of `buffer`. The caller may read the buffer meanwhile, but not write to it.
  void hash(Buffer& buffer, std::size_t size_bytes);
  void release(Buffer& buffer);
  /// Hashes the remaining pieces. The object must not be used afterwards. Errors: kHasher.
  Result<Measurements> finish();

 private:
  struct Shared;
  explicit ImageDigests(std::unique_ptr<Shared> shared);
  std::unique_ptr<Shared> shared_;
};

}  // namespace nitro::eif
