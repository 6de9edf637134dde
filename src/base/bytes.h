// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace nitro {

namespace detail {
template <std::unsigned_integral T>
constexpr T byte_swap(T value) {
  if constexpr (sizeof(T) == 1) return value;
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(value);
}
}  // namespace detail

/// Unaligned integers with a fixed byte order. `bytes` must hold at least sizeof(T) bytes.
template <std::unsigned_integral T>
[[nodiscard]] T load_le(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return std::endian::native == std::endian::little ? value : detail::byte_swap(value);
}
template <std::unsigned_integral T>
[[nodiscard]] T load_be(std::span<const std::byte> bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return std::endian::native == std::endian::big ? value : detail::byte_swap(value);
}
template <std::unsigned_integral T>
void store_le(std::span<std::byte> bytes, T value) {
  if constexpr (std::endian::native != std::endian::little) value = detail::byte_swap(value);
  std::memcpy(bytes.data(), &value, sizeof value);
}
template <std::unsigned_integral T>
void store_be(std::span<std::byte> bytes, T value) {
  if constexpr (std::endian::native != std::endian::big) value = detail::byte_swap(value);
  std::memcpy(bytes.data(), &value, sizeof value);
}

[[nodiscard]] inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}
[[nodiscard]] inline std::string_view as_text(std::span<const std::byte> bytes) {
  // char may alias any object (C++20 [basic.lval]/11).
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Returns lower-case hexadecimal.
[[nodiscard]] std::string to_hex(std::span<const std::byte> bytes);

/// Returns `text` in double quotes, with control characters, quotes and backslashes escaped: the form of external
/// values in messages.
[[nodiscard]] std::string quote(std::string_view text);
/// Returns `text` with control characters replaced by '?': output of another program, safe for a terminal.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace nitro
