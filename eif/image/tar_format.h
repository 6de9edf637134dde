// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace nitro::image {

/// Bytes of a tar block: headers are one, contents are filled up to the next.
inline constexpr std::size_t kTarBlock = 512;

/// A field of a header: offset and size in bytes.
struct TarField {
  std::size_t offset;
  std::size_t size;
};

/// Octal digits between blanks and zeros; nothing but these is 0. Nothing when it is another text.
[[nodiscard]] std::optional<std::int64_t> tar_octal(std::span<const std::byte> block, TarField field);

/// Octal digits between blanks and zeros, or, when the highest bit is set, a big-endian number in two's complement
/// (GNU, star). Nothing when it is neither or does not fit.
[[nodiscard]] std::optional<std::int64_t> tar_number(std::span<const std::byte> block, TarField field);

/// A decimal number, perhaps with a sign, and nothing else, as pax records have it.
[[nodiscard]] std::optional<std::int64_t> pax_number(std::string_view digits);

}  // namespace nitro::image
