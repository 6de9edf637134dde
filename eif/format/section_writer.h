// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "eif/format/header.h"
#include "eif/format/image_digests.h"
#include "nitro/eif/writer.h"

namespace nitro::eif {

/// Writes sections one after the other into a file, computing their CRCs and the registers on the way. The caller
/// decides on the types of the sections and their order; see Writer and sign_image().
///
/// The file ends with the last section; the first 548 bytes stay zero until write_header().
class SectionWriter {
 public:
  /// `fd` is borrowed and must also be open for reading; the file is truncated. Errors: kFileOperation, kHasher.
  static Result<SectionWriter> create(int fd, HashAlgorithm algorithm);

  /// Appends a section; its header is written once the size is known. Errors: kFileOperation, kHasher, those of the
  /// producer.
  Result<void> add(SectionType type, const Producer& data, std::uint16_t flags = 0);
  /// Appends a section that `place` writes, and reads it back. Errors: kFileOperation, kHasher, those of `place`.
  Result<void> add_in_place(SectionType type, const Placer& place, std::uint16_t flags = 0);
  /// Appends a section whose `size_bytes` bytes are in the file `source_fd` (borrowed) from `offset_bytes` on. The new
  /// file replaces that one, so its pages are dropped from the cache as they are read: freeing all of them at the end
  /// would occupy one thread for a tenth of the total time. Errors: kFileOperation, kHasher.
  Result<void> add_copy(SectionType type, int source_fd, std::uint64_t offset_bytes, std::uint64_t size_bytes,
                        std::uint16_t flags);
  /// Returns the registers of the sections added so far; call it once, after the last measured section. Errors:
  /// kHasher.
  Result<Measurements> measure() { return digests_.finish(); }
  /// Appends a section without measuring it. Errors: kFileOperation.
  Result<void> add_unmeasured(SectionType type, std::span<const std::byte> data, std::uint16_t flags = 0);
  /// Fills in magic, section table and CRC, and writes the header. Errors: kFileOperation.
  Result<void> write_header(RawHeader header);

  [[nodiscard]] std::size_t count() const { return sections_.size(); }
  [[nodiscard]] std::uint64_t section_size(std::size_t index) const { return sections_[index].size_bytes; }
  /// Returns the CRC of a section that was written: of its header and its data.
  [[nodiscard]] std::uint32_t section_crc32(std::size_t index) const { return sections_[index].crc32; }

 private:
  struct Entry {
    std::uint64_t offset_bytes;  // of the section header
    std::uint64_t size_bytes;    // of the data
    std::uint32_t crc32;
  };
  SectionWriter(int fd, ImageDigests digests) : fd_(fd), digests_(std::move(digests)) {}

  Result<void> begin_section(SectionType type);
  Result<void> append(std::span<const std::byte> bytes);
  Result<void> flush();
  // Measures the first `size_bytes` of `buffer`, writes them unless they are already in the file, and releases the
  // buffer.
  enum class Written { kYes, kNo };
  Result<void> finish_piece(ImageDigests::Buffer& buffer, std::size_t size_bytes, Written written);
  // The same for all of the next `size_bytes`, which `fill` writes into one buffer after the other.
  Result<void> take(std::uint64_t size_bytes, Written written,
                    const std::function<Result<void>(std::span<std::byte> bytes, std::uint64_t done)>& fill);
  void start_writeback();
  Result<void> close_section(SectionType type, std::uint16_t flags);

  int fd_;
  ImageDigests digests_;
  ImageDigests::Buffer* buffer_ = nullptr;
  std::size_t filled_ = 0;  // bytes of buffer_ that are not in the file yet
  std::uint64_t section_start_ = format::kHeaderBytes;
  std::uint64_t position_ = format::kHeaderBytes;  // position of the next byte
  std::uint64_t written_out_ = 0;                  // up to where the kernel was asked to write the file to disk
  std::uint32_t data_crc32_ = 0;
  std::vector<Entry> sections_;
};

}  // namespace nitro::eif
