// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "eif/image/extent.h"
#include "eif/image/tar.h"
#include "nitro/byte_sink.h"

namespace nitro::image {

/// The fields of a cpio header.
struct CpioMember {
  std::string_view name;
  FileType type = FileType::kRegular;
  std::uint32_t mode = 0;  ///< 07777
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime = 0;  ///< seconds since 1970
  std::uint64_t size_bytes = 0;
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
};

/// Writes a cpio archive, new ASCII format ("newc", Linux: Documentation/driver-api/early-userspace/buffer-format.rst).
/// Where the format leaves a choice, it uses linuxkit's values, so that measurements are identical:
/// - inode numbers count from 721; a folder has 2 links, everything else 1; the device of the archive is 3:1
/// - the trailer continues the inode numbers, has 1 link and mode 0; the archive ends at a multiple of 512 bytes
/// - a time before 1970 is a minus sign and the hexadecimal digits of its absolute value, padded to 8 characters
///
/// A member's content follows its header through write(), copy(), zeros() or reserve(), exactly size_bytes in total.
/// The bytes go to `sink` in pieces of up to 64 KiB; finish() flushes the rest.
class CpioWriter {
 public:
  /// Skips bytes of the output: they are zeros, or are written by someone else.
  using Gap = std::function<Result<void>(std::uint64_t size_bytes)>;

  /// `sink` is borrowed until finish(). Without `gap` everything goes through `sink`.
  explicit CpioWriter(const ByteSink& sink, Gap gap = nullptr);

  /// Errors: kEifBuilding for content that the format cannot hold (4 GiB and more); those of the sink.
  Result<void> begin(const CpioMember& member);
  Result<void> write(std::span<const std::byte> bytes);
  Result<void> copy(const Extent& content);
  Result<void> zeros(std::uint64_t size_bytes);
  /// Leaves content out, and returns its position in the archive. Calling this without `gap` is a bug.
  Result<std::uint64_t> reserve(std::uint64_t size_bytes);
  Result<void> finish();

  /// Returns the size of the archive so far, in bytes.
  [[nodiscard]] std::uint64_t length_bytes() const { return length_; }

 private:
  Result<void> pad(std::uint64_t multiple);
  Result<void> flush();

  const ByteSink& sink_;
  const Gap gap_;
  std::unique_ptr<std::byte[]> memory_;
  std::span<std::byte> buffer_;  // the memory
  std::size_t used_ = 0;
  std::uint64_t length_ = 0;
  std::uint32_t inode_ = 721;
};

}  // namespace nitro::image
