// SPDX-License-Identifier: Apache-2.0
#include "eif/format/header.h"

#include <libdeflate.h>
#include <zlib.h>

#include <algorithm>

#include "src/base/bytes.h"

namespace nitro::eif {

RawHeader decode_header(std::span<const std::byte, format::kHeaderBytes> bytes) {
  RawHeader header;
  std::copy_n(bytes.begin(), header.magic.size(), header.magic.begin());
  header.version = load_be<std::uint16_t>(bytes.subspan(format::kVersionOffset));
  header.flags = load_be<std::uint16_t>(bytes.subspan(format::kFlagsOffset));
  header.default_memory_bytes = load_be<std::uint64_t>(bytes.subspan(format::kDefaultMemoryOffset));
  header.default_cpus = load_be<std::uint64_t>(bytes.subspan(format::kDefaultCpusOffset));
  header.section_count = load_be<std::uint16_t>(bytes.subspan(format::kSectionCountOffset));
  for (std::size_t i = 0; i < format::kMaxSections; ++i) {
    header.section_offsets[i] = load_be<std::uint64_t>(bytes.subspan(format::kSectionOffsetsOffset + 8 * i));
    header.section_sizes[i] = load_be<std::uint64_t>(bytes.subspan(format::kSectionSizesOffset + 8 * i));
  }
  header.crc32 = load_be<std::uint32_t>(bytes.subspan(format::kCrcOffset));
  return header;
}

HeaderBytes encode_header(const RawHeader& header) {
  HeaderBytes buffer{};
  const std::span<std::byte> bytes(buffer);
  std::copy(header.magic.begin(), header.magic.end(), buffer.begin());
  store_be(bytes.subspan(format::kVersionOffset), header.version);
  store_be(bytes.subspan(format::kFlagsOffset), header.flags);
  store_be(bytes.subspan(format::kDefaultMemoryOffset), header.default_memory_bytes);
  store_be(bytes.subspan(format::kDefaultCpusOffset), header.default_cpus);
  store_be(bytes.subspan(format::kSectionCountOffset), header.section_count);
  for (std::size_t i = 0; i < format::kMaxSections; ++i) {
    store_be(bytes.subspan(format::kSectionOffsetsOffset + 8 * i), header.section_offsets[i]);
    store_be(bytes.subspan(format::kSectionSizesOffset + 8 * i), header.section_sizes[i]);
  }
  store_be(bytes.subspan(format::kCrcOffset), header.crc32);
  return buffer;
}

RawSectionHeader decode_section_header(std::span<const std::byte, format::kSectionHeaderBytes> bytes) {
  return {.type = load_be<std::uint16_t>(bytes),
          .flags = load_be<std::uint16_t>(bytes.subspan(format::kSectionFlagsOffset)),
          .size_bytes = load_be<std::uint64_t>(bytes.subspan(format::kSectionSizeOffset))};
}

SectionHeaderBytes encode_section_header(const RawSectionHeader& header) {
  SectionHeaderBytes buffer{};
  const std::span<std::byte> bytes(buffer);
  store_be(bytes, header.type);
  store_be(bytes.subspan(format::kSectionFlagsOffset), header.flags);
  store_be(bytes.subspan(format::kSectionSizeOffset), header.size_bytes);
  return buffer;
}

std::uint32_t crc32_of(std::span<const std::byte> bytes, std::uint32_t crc) {
  // Not zlib's: libdeflate needs a fifth of the time, which matters beside hashes that run on separate threads.
  return ::libdeflate_crc32(crc, bytes.data(), bytes.size());
}

std::uint32_t crc32_joined(std::uint32_t first, std::uint32_t second, std::uint64_t second_size_bytes) {
  return static_cast<std::uint32_t>(::crc32_combine(first, second, static_cast<z_off_t>(second_size_bytes)));
}

std::uint32_t header_crc32(std::span<const std::byte, format::kHeaderBytes> bytes) {
  return crc32_of(bytes.first(format::kCrcOffset));
}

}  // namespace nitro::eif
