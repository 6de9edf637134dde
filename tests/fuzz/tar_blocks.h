// SPDX-License-Identifier: Apache-2.0
// What fuzzers write of tar archives.
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>

namespace nitro::fuzz {

inline constexpr std::size_t kTarBlock = 512;

/// Puts the checksum of the header at `at` right: the sum of its bytes, with blanks in its own place.
inline void put_checksum_right(std::string& archive, std::size_t at) {
  archive.replace(at + 148, 8, "        ");
  unsigned sum = 0;
  for (std::size_t i = 0; i < kTarBlock; ++i) sum += static_cast<unsigned char>(archive[at + i]);
  char digits[8];
  std::snprintf(digits, sizeof digits, "%06o", sum);
  archive.replace(at + 148, 7, digits, 7);
}

/// The same for all blocks that look like a header.
inline void put_checksums_right(std::string& archive) {
  for (std::size_t at = 0; at + kTarBlock <= archive.size(); at += kTarBlock) {
    if (archive.compare(at + 257, 5, "ustar") == 0) put_checksum_right(archive, at);
  }
}

/// Zeros up to the next block.
inline void fill_block(std::string& archive) {
  archive.resize((archive.size() + kTarBlock - 1) / kTarBlock * kTarBlock);
}

}  // namespace nitro::fuzz
