// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

/// Every number of the enclave image format, version 4 (docs/eif-format.md). All integers in a file are big-endian. A
/// file is one header followed by the sections, each a section header followed by its data:
///
///   offset  bytes  header                            offset  bytes  section header
///        0      4  magic ".eif"                           0      2  type
///        4      2  version                                2      2  flags, unused
///        6      2  flags; bit 0: aarch64                  4      8  size of the data
///        8      8  default memory, bytes
///       16      8  default CPUs
///       24      2  reserved
///       26      2  number of sections
///       28  32*8  offset of each section's header
///      284  32*8  size of each section's data
///      540      4  reserved
///      544      4  CRC-32 of all bytes of the file but these four
namespace nitro::eif::format {

inline constexpr std::array<std::byte, 4> kMagic{std::byte{'.'}, std::byte{'e'}, std::byte{'i'}, std::byte{'f'}};

inline constexpr std::uint16_t kOldestVersion = 2;  // 0 and 1 were never published
inline constexpr std::uint16_t kSignatureVersion = 3;
inline constexpr std::uint16_t kMetadataVersion = 4;
inline constexpr std::uint16_t kNewestVersion = 4;

inline constexpr std::uint16_t kFlagAarch64 = 1;

inline constexpr std::size_t kMinSections = 2;  // a kernel and a command line
inline constexpr std::size_t kMaxSections = 32;

inline constexpr std::size_t kVersionOffset = 4;
inline constexpr std::size_t kFlagsOffset = 6;
inline constexpr std::size_t kDefaultMemoryOffset = 8;
inline constexpr std::size_t kDefaultCpusOffset = 16;
inline constexpr std::size_t kSectionCountOffset = 26;
inline constexpr std::size_t kSectionOffsetsOffset = 28;
inline constexpr std::size_t kSectionSizesOffset = 284;
inline constexpr std::size_t kCrcOffset = 544;
inline constexpr std::size_t kHeaderBytes = 548;

inline constexpr std::size_t kSectionFlagsOffset = 2;
inline constexpr std::size_t kSectionSizeOffset = 4;
inline constexpr std::size_t kSectionHeaderBytes = 12;

}  // namespace nitro::eif::format
