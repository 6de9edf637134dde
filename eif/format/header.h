// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "eif/format/format.h"
#include "nitro/eif/reader.h"

namespace nitro::eif {

/// The header as it is in the file; nothing in it has been checked.
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
/// Encodes a header; reserved fields are zero.
[[nodiscard]] HeaderBytes encode_header(const RawHeader& header);

/// A section header; the type may be any number.
struct RawSectionHeader {
  std::uint16_t type = 0;
  std::uint16_t flags = 0;
  std::uint64_t size_bytes = 0;
};
[[nodiscard]] RawSectionHeader decode_section_header(std::span<const std::byte, format::kSectionHeaderBytes> bytes);
[[nodiscard]] SectionHeaderBytes encode_section_header(const RawSectionHeader& header);

/// Continues `crc`, 0 at the start, with `bytes`: CRC-32 (IEEE 802.3).
[[nodiscard]] std::uint32_t crc32_of(std::span<const std::byte> bytes, std::uint32_t crc = 0);
/// Returns the CRC of two concatenated byte strings, given the CRC of each.
[[nodiscard]] std::uint32_t crc32_joined(std::uint32_t first, std::uint32_t second, std::uint64_t second_size_bytes);
/// Returns the CRC of the header without its own CRC field.
[[nodiscard]] std::uint32_t header_crc32(std::span<const std::byte, format::kHeaderBytes> bytes);

}  // namespace nitro::eif
