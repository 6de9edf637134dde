// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace nitro::image {

/// The size of a tar block: headers are one block, contents are padded to whole blocks.
inline constexpr std::size_t kTarBlock = 512;

/// A field of a header: offset and size in bytes.
struct TarField {
  std::size_t offset;
  std::size_t size;
};

/// Reads octal digits between blanks and zeros; no digits mean 0. Returns nullopt for any other text.
[[nodiscard]] std::optional<std::int64_t> tar_octal(std::span<const std::byte> block, TarField field);

/// Reads octal digits between blanks and zeros, or, if the highest bit is set, a big-endian number in two's complement
/// (GNU, star). Returns nullopt if it is neither or does not fit.
[[nodiscard]] std::optional<std::int64_t> tar_number(std::span<const std::byte> block, TarField field);

/// Reads a decimal number, optionally with a sign and with nothing else, as in pax records.
[[nodiscard]] std::optional<std::int64_t> pax_number(std::string_view digits);

}  // namespace nitro::image
