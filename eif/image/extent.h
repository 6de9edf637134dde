// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "nitro/byte_sink.h"
#include "nitro/fd.h"

namespace nitro::image {

/// A range of bytes of an open file. Extents of one file share its descriptor and read with pread(2), so any number of
/// them may be used at the same time, also from several threads.
struct Extent {
  std::shared_ptr<const Fd> file;
  std::uint64_t offset_bytes = 0;
  std::uint64_t size_bytes = 0;

  /// Fills `buffer` from `at_bytes` on, relative to the start of the extent; the range must lie inside it.
  Result<void> read(std::uint64_t at_bytes, std::span<std::byte> buffer) const;
  /// Passes the whole content to `sink`, in pieces of at most 256 KiB.
  Result<void> read_all(const ByteSink& sink) const;
  /// Returns the content as text. Errors: kEifBuilding if it is longer than `limit_bytes`.
  Result<std::string> text(std::size_t limit_bytes) const;
  /// Returns a part of this extent, inside which it must lie.
  [[nodiscard]] Extent part(std::uint64_t at_bytes, std::uint64_t size) const {
    return {file, offset_bytes + at_bytes, size};
  }
};

/// Opens a whole file for reading. Errors: kFileOperation, also for anything but a regular file.
Result<Extent> open_extent(const std::string& path);

}  // namespace nitro::image
