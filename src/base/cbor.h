// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace nitro {

/// Reads CBOR (RFC 8949) item by item from untrusted bytes: it does not allocate or recurse, and trusts a size only if
/// the bytes are there. Indefinite lengths are rejected: no image and no message of an enclave process uses them. After
/// the first failure every further call fails, so a caller may check once.
class CborInput {
 public:
  explicit CborInput(std::span<const std::byte> bytes) : rest_(bytes) {}

  /// Returns the next item if it is of this kind. Arrays and maps: the number of elements or pairs that follow.
  std::optional<std::uint64_t> unsigned_integer();
  /// Signed; must fit in 64 bits.
  std::optional<std::int64_t> integer();
  std::optional<std::span<const std::byte>> byte_string();
  /// Not checked for UTF-8.
  std::optional<std::string_view> text();
  std::optional<bool> boolean();
  std::optional<std::uint64_t> array();
  std::optional<std::uint64_t> map();
  /// An array of integers from 0 to 255: the form in which the image format stores most bytes.
  std::optional<std::vector<std::byte>> byte_array();
  /// Skips a tag with this number if it is the next item.
  void skip_tag(std::uint64_t number);
  /// Skips one item with everything inside it.
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
  /// The form that CborInput::byte_array reads.
  CborOutput& byte_array(std::span<const std::byte> bytes);

  [[nodiscard]] std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  template <class Encode, class Value>
  void head(Encode encode, Value value);

  std::vector<std::byte> bytes_;
};

}  // namespace nitro
