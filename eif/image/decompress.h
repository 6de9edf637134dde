// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <span>

#include "eif/image/budget.h"
#include "eif/image/byte_stream.h"
#include "nitro/byte_sink.h"

namespace nitro::image {

enum class Compression { kNone, kGzip, kZstd, kXz, kBzip2 };

/// What the first bytes of a blob say, as for engines; media types are not asked, as registries and archives often get
/// them wrong. Six bytes are enough; fewer are "not compressed".
[[nodiscard]] Compression detect_compression(std::span<const std::byte> start);
Result<Compression> detect_compression(const Extent& blob);

/// Most bytes one blob may unpack to: larger than any enclave, small enough to stop a compression bomb.
inline constexpr std::uint64_t kMaxUnpackedBytes = std::uint64_t{64} << 30;

/// Most memory that a decoder takes for what it has unpacked and may refer to again. The longest window of zstd that
/// its tools read without being asked to is 128 MiB; xz at its highest level needs 65 MiB.
inline constexpr std::uint64_t kMaxWindowBytes = std::uint64_t{160} << 20;

/// The unpacked content of a compressed blob. Several compressed streams in a row are one, as for their tools; zstd may
/// have frames without content anywhere. Other bytes behind them are an error. Memory: some hundred KiB, and what the
/// format needs, which is charged to the budget.
class UnpackedStream : public ByteStream {
 public:
  /// `stored`, when given, gets the bytes of the blob as they are stored, `unpacked` the unpacked ones; both see
  /// everything once the end is reached. `budget` is borrowed.
  UnpackedStream(Extent blob, Budget& budget, ByteSink stored = nullptr, ByteSink unpacked = nullptr,
                 std::uint64_t max_bytes = kMaxUnpackedBytes);
  ~UnpackedStream() override;

  /// The next piece, valid until the next call of any function; empty at the end. Errors: kEifBuilding when the data is
  /// damaged, ends too early or exceeds `max_bytes`; those of reading and of the sink.
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
