// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>

#include "eif/image/budget.h"
#include "eif/image/byte_stream.h"
#include "nitro/byte_sink.h"

namespace nitro::image {

enum class Compression { kNone, kGzip, kZstd, kXz, kBzip2 };

/// Detects the compression from the first bytes of a blob, as engines do; media types are ignored, as registries and
/// archives often get them wrong. Six bytes are enough; fewer are "not compressed".
[[nodiscard]] Compression detect_compression(std::span<const std::byte> start);
Result<Compression> detect_compression(const Extent& blob);

/// Limit for the unpacked size of one blob: larger than any enclave, small enough to stop a compression bomb.
inline constexpr std::uint64_t kMaxUnpackedBytes = std::uint64_t{64} << 30;

/// Limit for a decoder's memory of unpacked data that it may refer to again. The zstd tools accept windows of up to 128
/// MiB by default; xz at its highest level needs 65 MiB.
inline constexpr std::uint64_t kMaxWindowBytes = std::uint64_t{160} << 20;

/// The unpacked content of a compressed blob. Concatenated streams are decoded as one, as by the usual tools; zstd may
/// have frames without content anywhere. Any other trailing bytes are an error. Memory: some hundred KiB, and whatever
/// the format needs, which is charged to the budget.
class UnpackedStream : public ByteStream {
 public:
  /// `stored`, if given, gets the bytes of the blob as stored, `unpacked` the unpacked ones; both have seen everything
  /// once the end is reached. `budget` is borrowed.
  UnpackedStream(Extent blob, Budget& budget, ByteSink stored = nullptr, ByteSink unpacked = nullptr,
                 std::uint64_t max_bytes = kMaxUnpackedBytes);
  ~UnpackedStream() override;

  /// Returns the next piece, valid until the next call of any function; empty at the end. Errors: kEifBuilding when the
  /// data is damaged, ends too early or exceeds `max_bytes`; those of reading and of the sink.
  Result<std::span<const std::byte>> next();
  Result<std::size_t> read(std::span<std::byte> buffer) override;
  Result<std::uint64_t> skip(std::uint64_t size_bytes) override;

  class Decoder;

 private:
  struct State;
  std::unique_ptr<State> state_;
  std::span<const std::byte> piece_;  // what next() gave and read() has not taken yet
};

}  // namespace nitro::image
