// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "enclave_proc/protocol/protocol.h"

namespace nitro::proc {

/// The answer of one process.
struct Answer {
  std::string path;
  bool complete = false;               ///< it closed the connection in time, and everything it sent was well-formed
  bool readable = true;                ///< false: it violated the protocol
  std::string standard_output;         ///< the texts of all StdOutMessage replies
  std::string standard_error;          ///< the texts of all StdErrMessage replies
  std::optional<std::int32_t> status;  ///< nullopt: no status came
};

/// Assembles the answer of a process from the bytes of its connection. Holds at most `max_bytes` of text and one
/// message of that size.
class AnswerReader {
 public:
  /// `expects_confirmation`: the replies start with kConfirmation.
  AnswerReader(Answer& answer, bool expects_confirmation, std::uint64_t max_bytes = kMaxReplyBytes)
      : answer_(answer), awaits_confirmation_(expects_confirmation), max_bytes_(max_bytes), reader_(max_bytes) {}

  /// Takes the next bytes. Returns false if they violate the protocol.
  bool take(std::span<const std::byte> bytes);
  /// Whether the connection may end at this point.
  [[nodiscard]] bool at_end() const { return reader_.empty() && !awaits_confirmation_; }

 private:
  bool take_reply(Reply reply);

  Answer& answer_;
  bool awaits_confirmation_;
  std::uint64_t max_bytes_;
  MessageReader reader_;
};

}  // namespace nitro::proc
