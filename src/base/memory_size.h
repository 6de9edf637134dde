// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>
#include <string_view>

#include "nitro/result.h"

namespace nitro {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;

/// An amount of enclave memory, in whole MiB.
class MemorySize {
 public:
  constexpr MemorySize() = default;
  static constexpr MemorySize from_mib(std::uint64_t mib) { return MemorySize(mib); }
  /// Rounds up.
  static constexpr MemorySize from_bytes(std::uint64_t bytes) { return MemorySize(bytes / kMiB + (bytes % kMiB != 0)); }
  /// Parses "512", "512M", "2G", "1T", in either case; a bare number is MiB. Errors: kInvalidArgument, also when the
  /// number of bytes exceeds 64 bits.
  static Result<MemorySize> parse(std::string_view text);

  [[nodiscard]] constexpr std::uint64_t mib() const { return mib_; }
  [[nodiscard]] constexpr std::uint64_t bytes() const { return mib_ * kMiB; }
  auto operator<=>(const MemorySize&) const = default;

 private:
  constexpr explicit MemorySize(std::uint64_t mib) : mib_(mib) {}
  std::uint64_t mib_ = 0;
};

}  // namespace nitro
