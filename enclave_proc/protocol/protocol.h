// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "nitro/result.h"

/// The messages on the socket of an enclave process (docs/socket-protocol.md). A message is a 64-bit little-endian
/// length and that many bytes of CBOR; a bare number is a 64-bit little-endian integer without a length. The client
/// sends the name of its command twice, as two messages, then the command's arguments if it has any; the process sends
/// replies until it closes the connection.
namespace nitro::proc {

enum class Command : std::uint8_t {
  kRun,
  kTerminate,
  kTerminateComplete,
  kDescribe,
  kGetEnclaveCid,
  kGetEnclaveFlags,
  kGetEnclaveName,
  kGetIdByName,
  kConnectionListenerStop,
  kNotPermitted,
};

/// The name of a command on the wire.
[[nodiscard]] std::string_view name_of(Command command);

/// Sent as a bare number ahead of the replies to describe, name and ID requests: the process is alive and will answer.
inline constexpr std::uint64_t kConfirmation = 0xeec0;
/// Longest message that a process accepts from a client; the longest sensible one is a name.
inline constexpr std::uint64_t kMaxRequestBytes = std::uint64_t{64} * 1024;
/// Longest message that a client accepts from a process: a description with all of an image's metadata.
inline constexpr std::uint64_t kMaxReplyBytes = std::uint64_t{64} * 1024 * 1024;

struct StdOutMessage {
  std::string text;
  bool operator==(const StdOutMessage&) const = default;
};
struct StdErrMessage {
  std::string text;
  bool operator==(const StdErrMessage&) const = default;
};
/// How the command ended: 0 or an errno.
struct StatusReply {
  std::int32_t status;
  bool operator==(const StatusReply&) const = default;
};
using Reply = std::variant<StdOutMessage, StdErrMessage, StatusReply>;

/// Returns a whole message, length included, ready to be sent.
[[nodiscard]] std::string encode(Command command);
/// Returns everything a client sends for one command: its name twice, and `arguments`, an encoded message or empty.
[[nodiscard]] std::string encode_request(Command command, std::string_view arguments = {});
[[nodiscard]] std::string encode(const Reply& reply);
[[nodiscard]] std::string encode_name(std::string_view name);
[[nodiscard]] std::string encode_describe_arguments(bool with_metadata);
[[nodiscard]] std::string encode_number(std::uint64_t number);

/// Decode the CBOR of one message, without its length. They allocate no more than the message holds. Errors:
/// kInvalidCommand for messages of a client, kSerde for messages of a process.
Result<Command> decode_command(std::span<const std::byte> message);
Result<std::string> decode_name(std::span<const std::byte> message);
/// {"metadata": bool}
Result<bool> decode_describe_arguments(std::span<const std::byte> message);
Result<Reply> decode_reply(std::span<const std::byte> message);

/// Splits a byte stream into messages; feed it with the bytes received.
class MessageReader {
 public:
  explicit MessageReader(std::uint64_t max_message_bytes) : max_message_bytes_(max_message_bytes) {}

  void append(std::span<const std::byte> bytes) { buffer_.insert(buffer_.end(), bytes.begin(), bytes.end()); }
  /// Returns the next whole message without its length, or nullopt while it is incomplete. Errors: kInvalidCommand for
  /// a length beyond the limit.
  Result<std::optional<std::vector<std::byte>>> next_message();
  /// Returns the next bare number, or nullopt while it is incomplete.
  std::optional<std::uint64_t> next_number();
  [[nodiscard]] bool empty() const { return buffer_.size() == start_; }

 private:
  void consume(std::size_t size);

  std::uint64_t max_message_bytes_;
  std::vector<std::byte> buffer_;
  std::size_t start_ = 0;
};

}  // namespace nitro::proc
