// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/protocol/protocol.h"

#include <fmt/format.h>

#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "src/base/bytes.h"
#include "src/base/cbor.h"

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

std::string framed(CborOutput cbor) {
  const auto message = std::move(cbor).take();
  return encode_number(message.size()).append(as_text(message));
}

/// Arguments and replies are both maps of one pair, {key: value}. Returns the key; `input` then stands before the
/// value.
std::optional<std::string_view> key_of_pair(CborInput& input) {
  if (input.map() != 1U) return std::nullopt;
  return input.text();
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
  CborOutput cbor;
  cbor.text(name);
  return framed(std::move(cbor));
}

std::string encode_request(Command command, std::string_view arguments) {
  const std::string name = encode(command);
  return fmt::format("{}{}{}", name, name, arguments);
}

std::string encode_describe_arguments(bool with_metadata) {
  CborOutput cbor;
  cbor.map(1).text("metadata").boolean(with_metadata);
  return framed(std::move(cbor));
}

std::string encode(const Reply& reply) {
  CborOutput cbor;
  cbor.map(1);
  if (const auto* out = std::get_if<StdOutMessage>(&reply)) {
    cbor.text("StdOutMessage").text(out->text);
  } else if (const auto* err = std::get_if<StdErrMessage>(&reply)) {
    cbor.text("StdErrMessage").text(err->text);
  } else {
    cbor.text("Status").integer(std::get<StatusReply>(reply).status);
  }
  return framed(std::move(cbor));
}

Result<Command> decode_command(std::span<const std::byte> message) {
  NITRO_TRY(const std::string name, decode_name(message));
  for (std::size_t i = 0; i < kCommandNames.size(); ++i) {
    if (kCommandNames[i] == name) return static_cast<Command>(i);
  }
  return fail(ErrorCode::kInvalidCommand, fmt::format("there is no command {}", quote(name.substr(0, 64))));
}

Result<std::string> decode_name(std::span<const std::byte> message) {
  CborInput input(message);
  const auto name = input.text();
  if (!name || !input.at_end()) return fail(ErrorCode::kInvalidCommand, "the message is not a CBOR text string");
  return std::string(*name);
}

Result<bool> decode_describe_arguments(std::span<const std::byte> message) {
  CborInput input(message);
  const auto key = key_of_pair(input);
  const auto with_metadata = input.boolean();
  if (key != "metadata" || !with_metadata || !input.at_end()) {
    return fail(ErrorCode::kInvalidCommand,
                "the arguments of a description request are not {\"metadata\": true or false}");
  }
  return *with_metadata;
}

Result<Reply> decode_reply(std::span<const std::byte> message) {
  CborInput input(message);
  const auto key = key_of_pair(input);
  if (key == "StdOutMessage" || key == "StdErrMessage") {
    const auto text = input.text();
    if (text && input.at_end()) {
      return key == "StdOutMessage" ? Reply(StdOutMessage{std::string(*text)})
                                    : Reply(StdErrMessage{std::string(*text)});
    }
  } else if (key == "Status") {
    const auto status = input.integer();
    using Limits = std::numeric_limits<std::int32_t>;
    if (status && *status >= Limits::min() && *status <= Limits::max() && input.at_end()) {
      return Reply(StatusReply{static_cast<std::int32_t>(*status)});
    }
  }
  return fail(ErrorCode::kSerde, "the enclave process sent a reply that is not part of the protocol");
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
                fmt::format("a message of {} bytes is announced; the limit is {}", size, max_message_bytes_));
  }
  if (waiting.size() - 8 < size) return std::optional<std::vector<std::byte>>();
  const auto body = waiting.subspan(8, static_cast<std::size_t>(size));
  auto message = std::optional(std::vector<std::byte>(body.begin(), body.end()));
  consume(8 + static_cast<std::size_t>(size));
  return message;
}

}  // namespace nitro::proc
