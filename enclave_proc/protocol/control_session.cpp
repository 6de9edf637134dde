// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/protocol/control_session.h"

#include <cerrno>
#include <nlohmann/json.hpp>

namespace nitro::proc {
namespace {

bool changes_something(Command command) {
  switch (command) {
    case Command::kDescribe:
    case Command::kGetEnclaveCid:
    case Command::kGetEnclaveFlags:
    case Command::kGetEnclaveName:
    case Command::kGetIdByName:
      return false;
    default:
      return true;
  }
}

bool has_arguments(Command command) {
  return command == Command::kDescribe || command == Command::kGetIdByName;
}

std::string json_string(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

ControlSession::Next ControlSession::take(std::span<const std::byte> bytes) {
  reader_.append(bytes);
  while (true) {
    const auto message = reader_.next_message();
    if (!message) return Next::kEnd;
    if (!message->has_value()) return Next::kRead;
    if (const Next next = take_message(**message); next != Next::kRead) return next;
  }
}

ControlSession::Next ControlSession::take_message(const std::vector<std::byte>& message) {
  ++messages_;
  if (messages_ <= 2) {
    const auto command = decode_command(message);
    if (!command || (messages_ == 2 && *command != command_)) return Next::kEnd;
    command_ = *command;
  }
  if (messages_ < (has_arguments(command_) ? 3 : 2)) return Next::kRead;
  return answer(message) ? Next::kReply : Next::kEnd;
}

/// Returns false when the arguments do not fit the command, or no client may send it.
bool ControlSession::answer(const std::vector<std::byte>& arguments) {
  if (changes_something(command_) && !owner_) {
    tell(StdErrMessage{"Only root and the user who started the enclave may do this.\n"});
    tell(StatusReply{EACCES});
    return true;
  }
  switch (command_) {
    case Command::kRun:
      tell(StatusReply{EEXIST});
      return true;
    case Command::kTerminate:
      terminated_ = true;
      for (const Reply& reply : handlers_.terminate()) tell(reply);
      return true;
    case Command::kDescribe: {
      const auto with_metadata = decode_describe_arguments(arguments);
      if (!with_metadata) return false;
      reply_ += encode_number(kConfirmation);
      tell(StdOutMessage{handlers_.describe(*with_metadata) + "\n"});
      tell(StatusReply{0});
      return true;
    }
    case Command::kGetEnclaveCid:
      reply_ += encode_number(handlers_.enclave_cid);
      return true;
    case Command::kGetEnclaveFlags:
      reply_ += encode_number(handlers_.enclave_flags);
      return true;
    case Command::kGetEnclaveName:
      reply_ += encode_number(kConfirmation);
      tell(StdOutMessage{json_string(handlers_.enclave_name)});
      tell(StatusReply{0});
      return true;
    case Command::kGetIdByName: {
      const auto name = decode_name(arguments);
      if (!name) return false;
      reply_ += encode_number(kConfirmation);
      if (*name == handlers_.enclave_name) tell(StdOutMessage{json_string(handlers_.enclave_id)});
      tell(StatusReply{0});
      return true;
    }
    case Command::kTerminateComplete:
    case Command::kConnectionListenerStop:
    case Command::kNotPermitted:
      // Not for clients: only the process itself uses these.
      return false;
  }
  return false;
}

}  // namespace nitro::proc
