// SPDX-License-Identifier: Apache-2.0
#include "eif/format/section_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "nitro/fd.h"

namespace nitro::eif {
namespace {

// Drops a part of a file that will not be read again from the page cache. Only a hint: failures are ignored.
void drop_from_cache(int fd, std::uint64_t offset_bytes, std::uint64_t size_bytes) {
  // Only whole pages are dropped; the page in which the part begins is complete together with the part before it.
  const std::uint64_t start = offset_bytes - offset_bytes % static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  ::posix_fadvise(fd, static_cast<off_t>(start), static_cast<off_t>(offset_bytes + size_bytes - start),
                  POSIX_FADV_DONTNEED);
}

}  // namespace

Result<SectionWriter> SectionWriter::create(int fd, HashAlgorithm algorithm) {
  NITRO_TRY(ImageDigests digests, ImageDigests::create(algorithm));
  if (::ftruncate(fd, 0) != 0) return fail_errno(ErrorCode::kFileOperation, "emptying the image file");
  return SectionWriter(fd, std::move(digests));
}

Result<void> SectionWriter::append(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (buffer_ == nullptr) buffer_ = &digests_.acquire();
    const std::size_t size = std::min(bytes.size(), ImageDigests::kBufferBytes - filled_);
    std::copy_n(bytes.begin(), size, buffer_->bytes().begin() + static_cast<std::ptrdiff_t>(filled_));
    filled_ += size;
    bytes = bytes.subspan(size);
    if (filled_ == ImageDigests::kBufferBytes) NITRO_CHECK(flush());
  }
  return {};
}

Result<void> SectionWriter::flush() {
  if (buffer_ == nullptr) return {};
  return finish_piece(*std::exchange(buffer_, nullptr), std::exchange(filled_, 0), Written::kNo);
}

Result<void> SectionWriter::finish_piece(ImageDigests::Buffer& buffer, std::size_t size_bytes, Written written) {
  const auto bytes = std::span<const std::byte>(buffer.bytes()).first(size_bytes);
  digests_.hash(buffer, bytes.size());
  data_crc32_ = crc32_of(bytes, data_crc32_);
  auto result = written == Written::kNo ? pwrite_all(fd_, bytes, position_) : Result<void>();
  digests_.release(buffer);
  position_ += bytes.size();
  start_writeback();
  return result;
}

// Starts writing the data to disk, so that fsync() finds little left to do. Only a hint: failures are ignored.
void SectionWriter::start_writeback() {
  constexpr std::uint64_t kStep = std::uint64_t{8} << 20;
  if (position_ - written_out_ < kStep) return;
  ::sync_file_range(fd_, static_cast<off64_t>(written_out_), static_cast<off64_t>(position_ - written_out_),
                    SYNC_FILE_RANGE_WRITE);
  written_out_ = position_;
}

Result<void> SectionWriter::close_section(SectionType type, std::uint16_t flags) {
  const std::uint64_t size = position_ - section_start_ - format::kSectionHeaderBytes;
  const SectionHeaderBytes header =
      encode_section_header({.type = static_cast<std::uint16_t>(type), .flags = flags, .size_bytes = size});
  NITRO_CHECK(pwrite_all(fd_, header, section_start_));
  sections_.push_back(
      {.offset_bytes = section_start_, .size_bytes = size, .crc32 = crc32_joined(crc32_of(header), data_crc32_, size)});
  section_start_ = position_;
  return {};
}

Result<void> SectionWriter::begin_section(SectionType type) {
  position_ = section_start_ + format::kSectionHeaderBytes;
  data_crc32_ = 0;
  return digests_.start_section(type);
}

Result<void> SectionWriter::add(SectionType type, const Producer& data, std::uint16_t flags) {
  NITRO_CHECK(begin_section(type));
  // A producer that continues after a failure must not succeed.
  std::optional<Error> failure;
  const auto sink = [&](std::span<const std::byte> bytes) -> Result<void> {
    if (failure) return Failure(*failure);
    auto appended = append(bytes);
    if (!appended) failure = appended.error();
    return appended;
  };
  NITRO_CHECK(data(sink));
  if (failure) return Failure(*failure);
  NITRO_CHECK(flush());
  return close_section(type, flags);
}

Result<void> SectionWriter::take(
    std::uint64_t size_bytes, Written written,
    const std::function<Result<void>(std::span<std::byte> bytes, std::uint64_t done)>& fill) {
  for (std::uint64_t done = 0; done < size_bytes;) {
    ImageDigests::Buffer& buffer = digests_.acquire();
    const auto bytes = buffer.bytes().first(
        static_cast<std::size_t>(std::min<std::uint64_t>(size_bytes - done, ImageDigests::kBufferBytes)));
    if (auto filled = fill(bytes, done); !filled) {
      digests_.release(buffer);
      return filled;
    }
    NITRO_CHECK(finish_piece(buffer, bytes.size(), written));
    done += bytes.size();
  }
  return {};
}

Result<void> SectionWriter::add_copy(SectionType type, int source_fd, std::uint64_t offset_bytes,
                                     std::uint64_t size_bytes, std::uint16_t flags) {
  NITRO_CHECK(begin_section(type));
  const auto read = [&](std::span<std::byte> bytes, std::uint64_t done) {
    auto result = pread_exact(source_fd, bytes, offset_bytes + done);
    drop_from_cache(source_fd, offset_bytes + done, bytes.size());
    return result;
  };
  NITRO_CHECK(take(size_bytes, Written::kNo, read));
  return close_section(type, flags);
}

Result<void> SectionWriter::add_in_place(SectionType type, const Placer& place, std::uint16_t flags) {
  NITRO_CHECK(begin_section(type));
  const std::uint64_t start = position_;
  NITRO_TRY(const std::uint64_t size_bytes, place(fd_, start));
  NITRO_CHECK(take(size_bytes, Written::kYes, [&](std::span<std::byte> bytes, std::uint64_t done) {
    return pread_exact(fd_, bytes, start + done);
  }));
  return close_section(type, flags);
}

Result<void> SectionWriter::add_unmeasured(SectionType type, std::span<const std::byte> data, std::uint16_t flags) {
  position_ = section_start_ + format::kSectionHeaderBytes;
  data_crc32_ = crc32_of(data);
  NITRO_CHECK(pwrite_all(fd_, data, position_));
  position_ += data.size();
  return close_section(type, flags);
}

Result<void> SectionWriter::write_header(RawHeader header) {
  header.magic = format::kMagic;
  header.section_count = static_cast<std::uint16_t>(sections_.size());
  header.section_offsets = {};
  header.section_sizes = {};
  for (std::size_t i = 0; i < sections_.size(); ++i) {
    header.section_offsets.at(i) = sections_[i].offset_bytes;
    header.section_sizes.at(i) = sections_[i].size_bytes;
  }
  header.crc32 = header_crc32(encode_header(header));
  for (const Entry& section : sections_) {
    header.crc32 = crc32_joined(header.crc32, section.crc32, section.size_bytes + format::kSectionHeaderBytes);
  }
  return pwrite_all(fd_, encode_header(header), 0);
}

}  // namespace nitro::eif
