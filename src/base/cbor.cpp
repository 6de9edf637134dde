// SPDX-License-Identifier: Apache-2.0
#include "src/base/cbor.h"

#include <cbor.h>

#include <array>
#include <limits>

#include "src/base/bytes.h"

namespace nitro {

/// Callbacks of libcbor's stateless decoder; each fills the item that `context` points to.
struct CborCallbacks {
  using Item = CborInput::Item;
  using Kind = CborInput::Kind;

  static Item& item(void* context) { return *static_cast<Item*>(context); }
  template <Kind kind, class Number>
  static void number(void* context, Number value) {
    item(context).kind = kind;
    item(context).number = value;
  }
  template <Kind kind>
  static void bytes(void* context, cbor_data data, std::size_t size) {
    item(context).kind = kind;
    // libcbor calls bytes unsigned char; they are bytes of the span that was passed in.
    item(context).bytes = {reinterpret_cast<const std::byte*>(data), size};
  }
  template <Kind kind>
  static void nothing(void* context) {
    item(context).kind = kind;
  }
  template <class Value>
  static void other(void* context, Value) {
    item(context).kind = Kind::kOther;
  }

  static cbor_callbacks table() {
    cbor_callbacks callbacks{};
    callbacks.uint8 = number<Kind::kUnsigned, std::uint8_t>;
    callbacks.uint16 = number<Kind::kUnsigned, std::uint16_t>;
    callbacks.uint32 = number<Kind::kUnsigned, std::uint32_t>;
    callbacks.uint64 = number<Kind::kUnsigned, std::uint64_t>;
    callbacks.negint8 = number<Kind::kNegative, std::uint8_t>;
    callbacks.negint16 = number<Kind::kNegative, std::uint16_t>;
    callbacks.negint32 = number<Kind::kNegative, std::uint32_t>;
    callbacks.negint64 = number<Kind::kNegative, std::uint64_t>;
    callbacks.byte_string = bytes<Kind::kBytes>;
    callbacks.byte_string_start = nothing<Kind::kUnsupported>;
    callbacks.string = bytes<Kind::kText>;
    callbacks.string_start = nothing<Kind::kUnsupported>;
    callbacks.array_start = number<Kind::kArray, std::size_t>;
    callbacks.indef_array_start = nothing<Kind::kUnsupported>;
    callbacks.map_start = number<Kind::kMap, std::size_t>;
    callbacks.indef_map_start = nothing<Kind::kUnsupported>;
    callbacks.tag = number<Kind::kTag, std::uint64_t>;
    callbacks.float2 = other<float>;
    callbacks.float4 = other<float>;
    callbacks.float8 = other<double>;
    callbacks.undefined = nothing<Kind::kOther>;
    callbacks.null = nothing<Kind::kOther>;
    callbacks.boolean = number<Kind::kBoolean, bool>;
    callbacks.indef_break = nothing<Kind::kUnsupported>;
    return callbacks;
  }
};

CborInput::Item CborInput::peek() const {
  static const cbor_callbacks kCallbacks = CborCallbacks::table();
  Item item;
  if (failed_ || rest_.empty()) return item;
  if ((rest_.front() & std::byte{0xe0}) == std::byte{0xc0}) return peek_tag();
  const auto* data = reinterpret_cast<cbor_data>(rest_.data());
  const cbor_decoder_result result = cbor_stream_decode(data, rest_.size(), &kCallbacks, &item);
  if (result.status != CBOR_DECODER_FINISHED) return {};
  item.encoded_size = result.read;
  return item;
}

// libcbor up to version 0.10 refuses the tags 6 to 20, but COSE_Sign1 has tag 18, so we parse tags ourselves.
CborInput::Item CborInput::peek_tag() const {
  const auto info = std::to_integer<unsigned>(rest_.front() & std::byte{0x1f});
  if (info < 24) return {.kind = Kind::kTag, .number = info, .bytes = {}, .encoded_size = 1};
  if (info > 27) return {};
  const std::size_t size = std::size_t{1} << (info - 24);
  if (rest_.size() < 1 + size) return {};
  std::uint64_t number = 0;
  for (const std::byte byte : rest_.subspan(1, size)) number = number << 8 | std::to_integer<std::uint64_t>(byte);
  return {.kind = Kind::kTag, .number = number, .bytes = {}, .encoded_size = 1 + size};
}

std::optional<CborInput::Item> CborInput::take(Kind kind) {
  const Item item = peek();
  if (item.kind != kind) {
    failed_ = true;
    return std::nullopt;
  }
  rest_ = rest_.subspan(item.encoded_size);
  return item;
}

std::optional<std::uint64_t> CborInput::unsigned_integer() {
  const auto item = take(Kind::kUnsigned);
  if (!item) return std::nullopt;
  return item->number;
}

std::optional<std::int64_t> CborInput::integer() {
  const bool negative = peek().kind == Kind::kNegative;
  const auto item = take(negative ? Kind::kNegative : Kind::kUnsigned);
  if (!item) return std::nullopt;
  if (item->number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    failed_ = true;
    return std::nullopt;
  }
  const auto value = static_cast<std::int64_t>(item->number);
  return negative ? -1 - value : value;
}

std::optional<std::span<const std::byte>> CborInput::byte_string() {
  const auto item = take(Kind::kBytes);
  if (!item) return std::nullopt;
  return item->bytes;
}

std::optional<std::string_view> CborInput::text() {
  const auto item = take(Kind::kText);
  if (!item) return std::nullopt;
  return as_text(item->bytes);
}

std::optional<bool> CborInput::boolean() {
  const auto item = take(Kind::kBoolean);
  if (!item) return std::nullopt;
  return item->number != 0;
}

std::optional<std::uint64_t> CborInput::array() {
  const auto item = take(Kind::kArray);
  if (!item) return std::nullopt;
  return item->number;
}

std::optional<std::uint64_t> CborInput::map() {
  const auto item = take(Kind::kMap);
  if (!item) return std::nullopt;
  return item->number;
}

std::optional<std::vector<std::byte>> CborInput::byte_array() {
  const auto size = array();
  // Each element takes at least one byte, so a larger count is wrong, and nothing may be reserved for it.
  if (!size || *size > rest_.size()) {
    failed_ = true;
    return std::nullopt;
  }
  std::vector<std::byte> bytes;
  bytes.reserve(*size);
  for (std::uint64_t i = 0; i < *size; ++i) {
    const auto value = unsigned_integer();
    if (!value || *value > 0xff) {
      failed_ = true;
      return std::nullopt;
    }
    bytes.push_back(static_cast<std::byte>(*value));
  }
  return bytes;
}

void CborInput::skip_tag(std::uint64_t number) {
  const Item item = peek();
  if (item.kind == Kind::kTag && item.number == number) rest_ = rest_.subspan(item.encoded_size);
}

bool CborInput::skip() {
  std::uint64_t pending = 1;
  while (pending > 0) {
    const Item item = peek();
    std::uint64_t inside = 0;
    if (item.kind == Kind::kArray) inside = item.number;
    if (item.kind == Kind::kMap) inside = item.number > rest_.size() ? item.number : 2 * item.number;
    if (item.kind == Kind::kTag) inside = 1;
    // As in byte_array(): reject counts that exceed the remaining bytes. This also keeps `pending` from overflowing.
    if (item.kind == Kind::kNone || item.kind == Kind::kUnsupported || inside > rest_.size()) {
      failed_ = true;
      return false;
    }
    rest_ = rest_.subspan(item.encoded_size);
    pending = pending - 1 + inside;
  }
  return true;
}

template <class Encode, class Value>
void CborOutput::head(Encode encode, Value value) {
  std::array<unsigned char, 9> buffer{};
  const std::size_t size = encode(value, buffer.data(), buffer.size());
  const auto bytes = std::as_bytes(std::span(buffer).first(size));
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

CborOutput& CborOutput::integer(std::int64_t value) {
  if (value >= 0) {
    head(cbor_encode_uint, static_cast<std::uint64_t>(value));
  } else {
    head(cbor_encode_negint, static_cast<std::uint64_t>(-1 - value));
  }
  return *this;
}

CborOutput& CborOutput::byte_string(std::span<const std::byte> bytes) {
  head(cbor_encode_bytestring_start, bytes.size());
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  return *this;
}

CborOutput& CborOutput::text(std::string_view text) {
  head(cbor_encode_string_start, text.size());
  const auto bytes = as_bytes(text);
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  return *this;
}

CborOutput& CborOutput::boolean(bool value) {
  head(cbor_encode_bool, value);
  return *this;
}

CborOutput& CborOutput::array(std::size_t size) {
  head(cbor_encode_array_start, size);
  return *this;
}

CborOutput& CborOutput::map(std::size_t size) {
  head(cbor_encode_map_start, size);
  return *this;
}

CborOutput& CborOutput::byte_array(std::span<const std::byte> bytes) {
  array(bytes.size());
  for (const std::byte byte : bytes) integer(std::to_integer<std::int64_t>(byte));
  return *this;
}

}  // namespace nitro
