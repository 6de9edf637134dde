// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/protocol.h"

#include <cbor.h>
#include <fmt/format.h>

#include <array>
#include <limits>

#include "nitro/bytes.h"

namespace nitro::proc {
namespace {

// In the order of Command; the spelling is part of the protocol.
constexpr std::array<std::string_view, 10> kCommandNames = {
    "Run",
    "Terminate",
    "TerminateComplete",
    "Describe",
    "GetEnclaveCID",
    "GetEnclaveFlags",
    "GetEnclaveName",
    "GetIDbyName",
    "ConnectionListenerStop",
    "NotPermitted",
};

/// A CBOR head is at most nine bytes long (RFC 8949, section 3).
template <class Value, class EncodeFunction>
void append_head(std::string& out, EncodeFunction encode_function, Value value) {
  std::array<unsigned char, 9> head{};
  const std::size_t size = encode_function(value, head.data(), head.size());
  for (std::size_t i = 0; i < size; ++i) out += static_cast<char>(head[i]);
}

void append_text(std::string& out, std::string_view text) {
  append_head(out, cbor_encode_string_start, text.size());
  out += text;
}

std::string framed(const std::string& cbor) {
  return encode_number(cbor.size()) + cbor;
}

/// One CBOR item head with its value, as the stream decoder of libcbor reports it. Strings point into the message.
struct Token {
  enum class Kind { kNone, kText, kMap, kBool, kUnsigned, kNegative, kOther } kind = Kind::kNone;
  std::string_view text;
  std::uint64_t number = 0;
};

/// Reads tokens one after the other. The messages of this protocol are flat, so that no tree of items is built, and
/// nothing that a length inside the message claims is ever allocated.
class TokenReader {
 public:
  explicit TokenReader(std::span<const std::byte> message) : rest_(message) {}

  [[nodiscard]] bool at_end() const { return rest_.empty(); }

  Token next() {
    Token token;
    if (rest_.empty()) return token;
    // libcbor reads unsigned char, which may alias std::byte.
    const cbor_decoder_result result =
        cbor_stream_decode(reinterpret_cast<cbor_data>(rest_.data()), rest_.size(), &callbacks(), &token);
    if (result.status != CBOR_DECODER_FINISHED) return {};
    rest_ = rest_.subspan(result.read);
    return token;
  }

 private:
  static const cbor_callbacks& callbacks() {
    static const cbor_callbacks instance = [] {
      cbor_callbacks made = cbor_empty_callbacks;
      made.string = [](void* context, cbor_data data, std::size_t size) {
        *static_cast<Token*>(context) = {
            .kind = Token::Kind::kText, .text = {reinterpret_cast<const char*>(data), size}, .number = 0};
      };
      made.map_start = [](void* context, std::size_t pairs) { set(context, Token::Kind::kMap, pairs); };
      made.boolean = [](void* context, bool value) { set(context, Token::Kind::kBool, value ? 1 : 0); };
      made.uint8 = [](void* context, std::uint8_t value) { set(context, Token::Kind::kUnsigned, value); };
      made.uint16 = [](void* context, std::uint16_t value) { set(context, Token::Kind::kUnsigned, value); };
      made.uint32 = [](void* context, std::uint32_t value) { set(context, Token::Kind::kUnsigned, value); };
      made.uint64 = [](void* context, std::uint64_t value) { set(context, Token::Kind::kUnsigned, value); };
      made.negint8 = [](void* context, std::uint8_t value) { set(context, Token::Kind::kNegative, value); };
      made.negint16 = [](void* context, std::uint16_t value) { set(context, Token::Kind::kNegative, value); };
      made.negint32 = [](void* context, std::uint32_t value) { set(context, Token::Kind::kNegative, value); };
      made.negint64 = [](void* context, std::uint64_t value) { set(context, Token::Kind::kNegative, value); };
      return made;
    }();
    return instance;
  }
  static void set(void* context, Token::Kind kind, std::uint64_t number) {
    *static_cast<Token*>(context) = {.kind = kind, .text = {}, .number = number};
  }

  std::span<const std::byte> rest_;
};

/// {key: value}: how the protocol writes both arguments and replies.
struct Pair {
  std::string_view key;
  Token value;
};

std::optional<Pair> decode_pair(std::span<const std::byte> message) {
  TokenReader tokens(message);
  if (const Token map = tokens.next(); map.kind != Token::Kind::kMap || map.number != 1) return std::nullopt;
  const Token key = tokens.next();
  const Token value = tokens.next();
  if (key.kind != Token::Kind::kText || !tokens.at_end()) return std::nullopt;
  return Pair{.key = key.text, .value = value};
}

}  // namespace

std::string_view name_of(Command command) {
  return kCommandNames.at(static_cast<std::size_t>(command));
}

std::string encode_number(std::uint64_t number) {
  std::array<std::byte, 8> bytes{};
  store_le(bytes, number);
  return std::string(as_text(bytes));
}

std::string encode(Command command) {
  return encode_name(name_of(command));
}

std::string encode_name(std::string_view name) {
  std::string cbor;
  append_text(cbor, name);
  return framed(cbor);
}

std::string encode_request(Command command, std::string_view arguments) {
  const std::string name = encode(command);
  return fmt::format("{}{}{}", name, name, arguments);
}

std::string encode_describe_arguments(bool with_metadata) {
  std::string cbor;
  append_head(cbor, cbor_encode_map_start, std::size_t{1});
  append_text(cbor, "metadata");
  append_head(cbor, cbor_encode_bool, with_metadata);
  return framed(cbor);
}

std::string encode(const Reply& reply) {
  std::string cbor;
  append_head(cbor, cbor_encode_map_start, std::size_t{1});
  if (const auto* out = std::get_if<StdOutMessage>(&reply)) {
    append_text(cbor, "StdOutMessage");
    append_text(cbor, out->text);
  } else if (const auto* err = std::get_if<StdErrMessage>(&reply)) {
    append_text(cbor, "StdErrMessage");
    append_text(cbor, err->text);
  } else {
    const std::int64_t status = std::get<StatusReply>(reply).status;
    append_text(cbor, "Status");
    // A negative integer n is sent as -1 - n (RFC 8949, section 3.1).
    if (status >= 0) {
      append_head(cbor, cbor_encode_uint, static_cast<std::uint64_t>(status));
    } else {
      append_head(cbor, cbor_encode_negint, static_cast<std::uint64_t>(-1 - status));
    }
  }
  return framed(cbor);
}

Result<Command> decode_command(std::span<const std::byte> message) {
  NITRO_TRY(const std::string name, decode_name(message));
  for (std::size_t i = 0; i < kCommandNames.size(); ++i) {
    if (kCommandNames[i] == name) return static_cast<Command>(i);
  }
  return fail(ErrorCode::kInvalidCommand, fmt::format("there is no command {}", quote(name.substr(0, 64))));
}

Result<std::string> decode_name(std::span<const std::byte> message) {
  TokenReader tokens(message);
  const Token token = tokens.next();
  if (token.kind != Token::Kind::kText || !tokens.at_end()) {
    return fail(ErrorCode::kInvalidCommand, "the message is not a CBOR text string");
  }
  return std::string(token.text);
}

Result<bool> decode_describe_arguments(std::span<const std::byte> message) {
  const auto pair = decode_pair(message);
  if (!pair || pair->key != "metadata" || pair->value.kind != Token::Kind::kBool) {
    return fail(ErrorCode::kInvalidCommand,
                "the arguments of a description request are not {\"metadata\": true or false}");
  }
  return pair->value.number != 0;
}

Result<Reply> decode_reply(std::span<const std::byte> message) {
  const auto pair = decode_pair(message);
  if (pair && pair->value.kind == Token::Kind::kText) {
    if (pair->key == "StdOutMessage") return Reply(StdOutMessage{std::string(pair->value.text)});
    if (pair->key == "StdErrMessage") return Reply(StdErrMessage{std::string(pair->value.text)});
  }
  constexpr std::uint64_t kMax = std::numeric_limits<std::int32_t>::max();
  if (pair && pair->key == "Status" && pair->value.number <= kMax) {
    const auto magnitude = static_cast<std::int32_t>(pair->value.number);
    if (pair->value.kind == Token::Kind::kUnsigned) return Reply(StatusReply{magnitude});
    if (pair->value.kind == Token::Kind::kNegative) return Reply(StatusReply{-1 - magnitude});
  }
  return fail(ErrorCode::kSerde, "the enclave process sent a reply that is none of the protocol's");
}

void MessageReader::consume(std::size_t size) {
  start_ += size;
  if (start_ == buffer_.size()) {
    buffer_.clear();
    start_ = 0;
  } else if (start_ > 4096 && start_ > buffer_.size() / 2) {
    buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(start_));
    start_ = 0;
  }
}

std::optional<std::uint64_t> MessageReader::next_number() {
  if (buffer_.size() - start_ < 8) return std::nullopt;
  const auto number = load_le<std::uint64_t>(std::span(buffer_).subspan(start_, 8));
  consume(8);
  return number;
}

Result<std::optional<std::vector<std::byte>>> MessageReader::next_message() {
  const auto waiting = std::span(buffer_).subspan(start_);
  if (waiting.size() < 8) return std::optional<std::vector<std::byte>>();
  const auto size = load_le<std::uint64_t>(waiting);
  if (size > max_message_bytes_) {
    return fail(ErrorCode::kInvalidCommand,
                fmt::format("a message of {} bytes is announced; at most {} make sense", size, max_message_bytes_));
  }
  if (waiting.size() - 8 < size) return std::optional<std::vector<std::byte>>();
  const auto body = waiting.subspan(8, static_cast<std::size_t>(size));
  auto message = std::optional(std::vector<std::byte>(body.begin(), body.end()));
  consume(8 + static_cast<std::size_t>(size));
  return message;
}

}  // namespace nitro::proc
