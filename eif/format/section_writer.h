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

/// Lays sections one after the other into a file and computes, on the way, their CRCs and the registers. What a section
/// may be and in which order they come is the caller's business; see Writer and sign_image().
///
/// The end of the file is at the end of the last section; the first 548 bytes stay zero until write_header().
class SectionWriter {
 public:
  /// `fd` is borrowed and open for reading, too; what is in the file is dropped. Errors: kFileOperation, kHasher.
  static Result<SectionWriter> create(int fd, HashAlgorithm algorithm);

  /// Appends a section; its header is written when the size is known. Errors: kFileOperation, kHasher, those of the
  /// producer.
  Result<void> add(SectionType type, const Producer& data, std::uint16_t flags = 0);
  /// Appends a section that `place` writes, and reads it again. Errors: kFileOperation, kHasher, those of `place`.
  Result<void> add_in_place(SectionType type, const Placer& place, std::uint16_t flags = 0);
  /// Appends a section whose `size_bytes` bytes are in the file `source_fd` (borrowed) from `offset_bytes` on. That is
  /// a file that the new one replaces: it leaves the page cache as it is read, as freeing all of it at the end would
  /// take one thread as long as a tenth of the whole. Errors: kFileOperation, kHasher.
  Result<void> add_copy(SectionType type, int source_fd, std::uint64_t offset_bytes, std::uint64_t size_bytes,
                        std::uint16_t flags);
  /// The registers of what was added; once, after the last section that is measured. Errors: kHasher.
  Result<Measurements> measure() { return digests_.finish(); }
  /// Appends a section without measuring it. Errors: kFileOperation.
  Result<void> add_unmeasured(SectionType type, std::span<const std::byte> data, std::uint16_t flags = 0);
  /// Fills in magic, section table and CRC, and writes the header. Errors: kFileOperation.
  Result<void> write_header(RawHeader header);

  [[nodiscard]] std::size_t count() const { return sections_.size(); }
  [[nodiscard]] std::uint64_t section_size(std::size_t index) const { return sections_[index].size_bytes; }
  /// The CRC of a section written: its header and its data.
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
  // Measures the first `size_bytes` of `buffer`, writes them unless they are in the file already, and gives it back.
  enum class Written { kYes, kNo };
  Result<void> finish_piece(ImageDigests::Buffer& buffer, std::size_t size_bytes, Written written);
  // The same for all of the next `size_bytes`, which `fill` puts into one buffer after the other.
  Result<void> take(std::uint64_t size_bytes, Written written,
                    const std::function<Result<void>(std::span<std::byte> bytes, std::uint64_t done)>& fill);
  void start_writeback();
  Result<void> close_section(SectionType type, std::uint16_t flags);

  int fd_;
  ImageDigests digests_;
  ImageDigests::Buffer* buffer_ = nullptr;
  std::size_t filled_ = 0;  // bytes of buffer_ that are not in the file yet
  std::uint64_t section_start_ = format::kHeaderBytes;
  std::uint64_t position_ = format::kHeaderBytes;  // where the next byte goes
  std::uint64_t written_out_ = 0;                  // up to where the kernel has been asked to write the file to disk
  std::uint32_t data_crc32_ = 0;
  std::vector<Entry> sections_;
};

}  // namespace nitro::eif
