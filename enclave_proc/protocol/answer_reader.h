// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "enclave_proc/protocol/protocol.h"

namespace nitro::proc {

/// What came back from one process.
struct Answer {
  std::string path;
  bool complete = false;               ///< it closed the connection in time, and everything before was well-formed
  bool readable = true;                ///< false: it sent what is not of the protocol
  std::string standard_output;         ///< the texts of all StdOutMessage
  std::string standard_error;          ///< the texts of all StdErrMessage
  std::optional<std::int32_t> status;  ///< nothing: no status came
};

/// Puts the answer of a process together from the bytes of its connection. Holds at most `max_bytes` of texts, and one
/// message of that size.
class AnswerReader {
 public:
  /// `expects_confirmation`: the replies start with kConfirmation.
  AnswerReader(Answer& answer, bool expects_confirmation, std::uint64_t max_bytes = kMaxReplyBytes)
      : answer_(answer), awaits_confirmation_(expects_confirmation), max_bytes_(max_bytes), reader_(max_bytes) {}

  /// Takes the bytes that came next; false when they are not an answer of the protocol.
  bool take(std::span<const std::byte> bytes);
  /// Whether the connection may end here.
  [[nodiscard]] bool at_end() const { return reader_.empty() && !awaits_confirmation_; }

 private:
  bool take_reply(Reply reply);

  Answer& answer_;
  bool awaits_confirmation_;
  std::uint64_t max_bytes_;
  MessageReader reader_;
};

}  // namespace nitro::proc
