// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/protocol/answer_reader.h"

#include <utility>

namespace nitro::proc {

bool AnswerReader::take(std::span<const std::byte> bytes) {
  reader_.append(bytes);
  if (awaits_confirmation_) {
    const auto number = reader_.next_number();
    if (!number) return true;
    if (*number != kConfirmation) return false;
    awaits_confirmation_ = false;
  }
  while (true) {
    const auto message = reader_.next_message();
    if (!message) return false;
    if (!message->has_value()) return true;
    auto reply = decode_reply(**message);
    if (!reply || !take_reply(std::move(*reply))) return false;
  }
}

bool AnswerReader::take_reply(Reply reply) {
  if (const auto* status = std::get_if<StatusReply>(&reply)) {
    answer_.status = status->status;
    return true;
  }
  const auto* out = std::get_if<StdOutMessage>(&reply);
  const std::string& text = out != nullptr ? out->text : std::get<StdErrMessage>(reply).text;
  // The size of each message is bounded, but not their number.
  if (text.size() > max_bytes_ - answer_.standard_output.size() - answer_.standard_error.size()) return false;
  (out != nullptr ? answer_.standard_output : answer_.standard_error) += text;
  return true;
}

}  // namespace nitro::proc
