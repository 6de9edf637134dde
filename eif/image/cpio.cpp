// SPDX-License-Identifier: Apache-2.0
#include "eif/image/cpio.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "src/base/bytes.h"

namespace nitro::image {

namespace {

constexpr std::size_t kBufferBytes = std::size_t{64} << 10;
constexpr std::uint64_t kLargestNumber = std::numeric_limits<std::uint32_t>::max();

constexpr std::uint32_t type_bits(FileType type) {
  switch (type) {
    case FileType::kRegular:
      return 0100000;
    case FileType::kDirectory:
      return 0040000;
    case FileType::kSymlink:
      return 0120000;
    case FileType::kCharDevice:
      return 0020000;
    case FileType::kBlockDevice:
      return 0060000;
    case FileType::kFifo:
      return 0010000;
  }
  return 0;
}

// The thirteen numbers of a header after its magic: 110 bytes in all.
class Header {
 public:
  Header() { std::memcpy(bytes_.data(), "070701", 6); }
  void add(std::uint64_t value) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    for (std::size_t i = 0; i < 8; ++i) bytes_[used_ + i] = kDigits[(value >> (28 - 4 * i)) & 0xfU];
    used_ += 8;
  }
  void add_time(std::int64_t seconds) {
    if (seconds >= 0) {
      // Times in the format end in 2106; a later one would break it.
      add(std::min(static_cast<std::uint64_t>(seconds), kLargestNumber));
      return;
    }
    constexpr std::uint64_t kSevenDigits = 0xfffffff;
    add(std::min(std::uint64_t{0} - static_cast<std::uint64_t>(seconds), kSevenDigits));
    bytes_[used_ - 8] = '-';
  }
  [[nodiscard]] std::span<const std::byte> bytes() const { return std::as_bytes(std::span(bytes_)); }

 private:
  std::array<char, 110> bytes_{};
  std::size_t used_ = 6;
};

}  // namespace

CpioWriter::CpioWriter(const ByteSink& sink, Gap gap)
    : sink_(sink),
      gap_(std::move(gap)),
      memory_(std::make_unique_for_overwrite<std::byte[]>(kBufferBytes)),
      buffer_(memory_.get(), kBufferBytes) {}

Result<void> CpioWriter::flush() {
  if (used_ == 0) return {};
  const auto bytes = buffer_.first(used_);
  used_ = 0;
  return sink_(bytes);
}

Result<void> CpioWriter::write(std::span<const std::byte> bytes) {
  length_ += bytes.size();
  while (!bytes.empty()) {
    if (used_ == buffer_.size()) NITRO_CHECK(flush());
    const auto count = std::min(bytes.size(), buffer_.size() - used_);
    std::memcpy(buffer_.data() + used_, bytes.data(), count);
    used_ += count;
    bytes = bytes.subspan(count);
  }
  return {};
}

Result<void> CpioWriter::copy(const Extent& content) {
  for (std::uint64_t at = 0; at < content.size_bytes;) {
    if (used_ == buffer_.size()) NITRO_CHECK(flush());
    const auto room = buffer_.subspan(used_);
    const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(room.size(), content.size_bytes - at));
    NITRO_CHECK(content.read(at, room.first(count)));
    used_ += count;
    at += count;
  }
  length_ += content.size_bytes;
  return {};
}

Result<void> CpioWriter::zeros(std::uint64_t size_bytes) {
  // A small gap is not worth a system call to flush the bytes before it.
  constexpr std::uint64_t kSmallGapBytes = 4096;
  if (gap_ && size_bytes >= kSmallGapBytes) {
    auto reserved = reserve(size_bytes);
    return reserved ? Result<void>() : Failure(std::move(reserved).error());
  }
  static constexpr std::array<std::byte, 4096> kZeros{};
  for (std::uint64_t left = size_bytes; left > 0;) {
    const auto count = std::min<std::uint64_t>(left, kZeros.size());
    NITRO_CHECK(write(std::span(kZeros).first(static_cast<std::size_t>(count))));
    left -= count;
  }
  return {};
}

Result<std::uint64_t> CpioWriter::reserve(std::uint64_t size_bytes) {
  NITRO_CHECK(flush());
  NITRO_CHECK(gap_(size_bytes));
  return std::exchange(length_, length_ + size_bytes);
}

Result<void> CpioWriter::pad(std::uint64_t multiple) {
  return zeros((multiple - length_ % multiple) % multiple);
}

Result<void> CpioWriter::begin(const CpioMember& member) {
  if (member.size_bytes > kLargestNumber) {
    return fail(ErrorCode::kEifBuilding, "file " + quote(member.name) + " has " + std::to_string(member.size_bytes) +
                                             " bytes; a ramdisk holds files of less than 4 GiB only");
  }
  NITRO_CHECK(pad(4));
  Header header;
  header.add(inode_++);
  header.add((member.mode & 07777U) | type_bits(member.type));
  header.add(member.uid);
  header.add(member.gid);
  header.add(member.type == FileType::kDirectory ? 2 : 1);
  header.add_time(member.mtime);
  header.add(member.size_bytes);
  header.add(3);
  header.add(1);
  header.add(member.device_major);
  header.add(member.device_minor);
  header.add(member.name.size() + 1);
  header.add(0);
  NITRO_CHECK(write(header.bytes()));
  NITRO_CHECK(write(as_bytes(member.name)));
  constexpr std::byte kEnd{};
  NITRO_CHECK(write(std::span(&kEnd, 1)));
  return pad(4);
}

Result<void> CpioWriter::finish() {
  constexpr std::string_view kTrailer = "TRAILER!!!";
  NITRO_CHECK(pad(4));
  Header header;
  header.add(inode_);
  for (int i = 0; i < 3; ++i) header.add(0);  // mode, uid, gid
  header.add(1);
  header.add(0);
  header.add(0);
  header.add(3);
  header.add(1);
  header.add(0);
  header.add(0);
  header.add(kTrailer.size() + 1);
  header.add(0);
  NITRO_CHECK(write(header.bytes()));
  NITRO_CHECK(write(as_bytes(kTrailer)));
  constexpr std::byte kEnd{};
  NITRO_CHECK(write(std::span(&kEnd, 1)));
  NITRO_CHECK(pad(512));
  return flush();
}

}  // namespace nitro::image
