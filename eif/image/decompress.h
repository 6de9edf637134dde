// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>

#include "eif/image/extent.h"

namespace nitro::image {

enum class Compression { kNone, kGzip, kZstd, kXz, kBzip2 };

/// What the first bytes of a blob say; media types are not asked, as registries and archives often get them wrong.
/// Six bytes are enough; fewer are "not compressed".
[[nodiscard]] Compression detect_compression(std::span<const std::byte> start);
Result<Compression> detect_compression(const Extent& blob);

/// Most bytes one blob may unpack to: larger than any enclave, small enough to stop a compression bomb.
inline constexpr std::uint64_t kMaxUnpackedBytes = std::uint64_t{64} << 30;

/// Hands the unpacked content of `blob` to `unpacked` and, when given, the bytes as stored to `stored`; both see
/// everything. Errors: kEifBuilding when the data is damaged, ends too early or exceeds kMaxUnpackedBytes; those of
/// reading and of the sinks.
Result<void> decompress(const Extent& blob, const ByteSink& unpacked, const ByteSink& stored = nullptr);

}  // namespace nitro::image
