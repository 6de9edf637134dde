// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace nitro {

/// Reads CBOR (RFC 8949) item by item from bytes that nobody vouches for: nothing is allocated, nothing recurses, and
/// sizes found in the bytes are believed only when the bytes are there. Indefinite lengths are not accepted: no image
/// and no message of an enclave process has them. After the first failure every further call fails, so a caller may
/// check once.
class CborInput {
 public:
  explicit CborInput(std::span<const std::byte> bytes) : rest_(bytes) {}

  /// The next item when it is of this kind. Arrays and maps: the number of elements or pairs that follow.
  std::optional<std::uint64_t> unsigned_integer();
  /// Either sign; must fit in 64 bits with sign.
  std::optional<std::int64_t> integer();
  std::optional<std::span<const std::byte>> byte_string();
  /// Not checked for UTF-8.
  std::optional<std::string_view> text();
  std::optional<bool> boolean();
  std::optional<std::uint64_t> array();
  std::optional<std::uint64_t> map();
  /// An array of integers from 0 to 255: how the image format stores most bytes.
  std::optional<std::vector<std::byte>> byte_array();
  /// Reads over a tag with this number if the next item is one.
  void skip_tag(std::uint64_t number);
  /// Reads over one item with all that is inside.
  bool skip();

  [[nodiscard]] bool at_end() const { return rest_.empty(); }
  [[nodiscard]] bool failed() const { return failed_; }

 private:
  enum class Kind { kNone, kUnsigned, kNegative, kBytes, kText, kArray, kMap, kTag, kBoolean, kOther, kUnsupported };
  struct Item {
    Kind kind = Kind::kNone;
    std::uint64_t number = 0;  // value, count, or tag
    std::span<const std::byte> bytes;
    std::size_t encoded_size = 0;
  };
  friend struct CborCallbacks;

  [[nodiscard]] Item peek() const;
  [[nodiscard]] Item peek_tag() const;
  std::optional<Item> take(Kind kind);

  std::span<const std::byte> rest_;
  bool failed_ = false;
};

/// Writes CBOR in its shortest form.
class CborOutput {
 public:
  CborOutput& integer(std::int64_t value);
  CborOutput& byte_string(std::span<const std::byte> bytes);
  CborOutput& text(std::string_view text);
  CborOutput& boolean(bool value);
  CborOutput& array(std::size_t size);
  CborOutput& map(std::size_t size);
  /// As CborInput::byte_array reads it.
  CborOutput& byte_array(std::span<const std::byte> bytes);

  [[nodiscard]] std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  template <class Encode, class Value>
  void head(Encode encode, Value value);

  std::vector<std::byte> bytes_;
};

}  // namespace nitro
