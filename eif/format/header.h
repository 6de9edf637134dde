// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "eif/format/format.h"
#include "nitro/eif/reader.h"

namespace nitro::eif {

/// The header as it stands in the file; nothing in it has been checked.
struct RawHeader {
  std::array<std::byte, 4> magic{};
  std::uint16_t version = 0;
  std::uint16_t flags = 0;
  std::uint64_t default_memory_bytes = 0;
  std::uint64_t default_cpus = 0;
  std::uint16_t section_count = 0;
  std::array<std::uint64_t, format::kMaxSections> section_offsets{};
  std::array<std::uint64_t, format::kMaxSections> section_sizes{};
  std::uint32_t crc32 = 0;
};

using HeaderBytes = std::array<std::byte, format::kHeaderBytes>;
using SectionHeaderBytes = std::array<std::byte, format::kSectionHeaderBytes>;

[[nodiscard]] RawHeader decode_header(std::span<const std::byte, format::kHeaderBytes> bytes);
/// Reserved fields are zero.
[[nodiscard]] HeaderBytes encode_header(const RawHeader& header);

/// The type may be any number.
struct RawSectionHeader {
  std::uint16_t type = 0;
  std::uint16_t flags = 0;
  std::uint64_t size_bytes = 0;
};
[[nodiscard]] RawSectionHeader decode_section_header(std::span<const std::byte, format::kSectionHeaderBytes> bytes);
[[nodiscard]] SectionHeaderBytes encode_section_header(const RawSectionHeader& header);

/// CRC-32 (IEEE 802.3) of `bytes` after those that gave `crc`; 0 to begin with.
[[nodiscard]] std::uint32_t crc32_of(std::span<const std::byte> bytes, std::uint32_t crc = 0);
/// The CRC of two strings of bytes one after the other.
[[nodiscard]] std::uint32_t crc32_joined(std::uint32_t first, std::uint32_t second, std::uint64_t second_size_bytes);
/// The CRC of the header without its own CRC field.
[[nodiscard]] std::uint32_t header_crc32(std::span<const std::byte, format::kHeaderBytes> bytes);

}  // namespace nitro::eif
