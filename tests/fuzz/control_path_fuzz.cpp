// SPDX-License-Identifier: Apache-2.0
// The way of a command: from the bytes of a client's socket through a session with an enclave process, whose answer
// arrives at a client in pieces. The input is a script that says what is sent and how long texts are, so that a few
// bytes of it reach the limits of both ends.
#include <algorithm>
#include <optional>
#include <string>

#include "enclave_proc/protocol/answer_reader.h"
#include "enclave_proc/protocol/control_session.h"
#include "src/base/bytes.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/script.h"

namespace {

using namespace nitro::proc;
using nitro::as_bytes;
using nitro::as_text;
using nitro::fuzz::require;
using nitro::fuzz::Script;
using Next = ControlSession::Next;

/// What a client sends: messages that are right and wrong, in any order.
std::string read_request(Script& script) {
  std::string request;
  for (int part = 0; part < 6 && !script.empty(); ++part) {
    switch (script.next() % 6) {
      case 0:
        request += encode_request(static_cast<Command>(script.next() % 10));
        break;
      case 1:
        request += encode(static_cast<Command>(script.next() % 10));
        break;
      case 2:
        request += encode_name(std::string(std::size_t{script.next16()} * 2, 'n'));
        break;
      case 3:
        request += encode_describe_arguments(script.next() % 2 != 0);
        break;
      case 4:
        request += encode_number(std::uint64_t{script.next16()} * 2);
        break;
      default:
        request += as_text(script.take(script.next() % 64));
    }
  }
  return request;
}

struct Session {
  Next next = Next::kRead;
  std::string reply;
  bool terminated = false;
};

Session run_session(const ControlHandlers& handlers, bool owner, const std::string& request, std::size_t piece) {
  ControlSession session(handlers, owner);
  Session result;
  for (std::size_t at = 0; at < request.size() && result.next == Next::kRead; at += piece)
    result.next = session.take(as_bytes(std::string_view(request).substr(at, piece)));
  result.reply = session.reply();
  result.terminated = session.terminated();
  return result;
}

struct Reading {
  Answer answer;
  bool good = true;
  bool at_end = false;
};

Reading read(const std::string& reply, bool confirmed, std::uint64_t limit, std::size_t piece) {
  Reading result;
  AnswerReader reader(result.answer, confirmed, limit);
  for (std::size_t at = 0; at < reply.size() && result.good; at += piece)
    result.good = reader.take(as_bytes(std::string_view(reply).substr(at, piece)));
  result.at_end = reader.at_end();
  return result;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Script script(std::as_bytes(std::span(data, size)));
  const std::uint8_t flags = script.next();
  const bool owner = (flags & 1) != 0;
  const std::size_t request_piece = std::size_t{script.next()} * 17 + 1;
  const std::size_t reply_piece = std::size_t{script.next()} * 17 + 1;
  const std::string description(std::size_t{script.next16()} * 2, 'd');
  const std::uint64_t limit = std::uint64_t{script.next16()} * 4;
  const std::string request = read_request(script);

  std::optional<std::string> said;  // what the handlers were asked for
  int ended = 0;
  const ControlHandlers handlers = {
      .enclave_name = "image",
      .enclave_id = "i-0-enc1",
      .enclave_cid = 16,
      .enclave_flags = 1,
      .describe =
          [&](bool with_metadata) {
            said = (with_metadata ? "m" : "") + description;
            return *said;
          },
      .terminate =
          [&] {
            ++ended;
            return std::vector<Reply>{StatusReply{0}, StdErrMessage{"ended\n"}, StdOutMessage{description}};
          },
      .on_terminated = [] {}};
  const Session one = run_session(handlers, owner, request, request_piece);
  require(one.terminated == (ended == 1) && ended <= 1 && (owner || ended == 0));
  require(one.reply.empty() == (one.next != Next::kReply));
  // How the bytes were cut makes no difference.
  const Session at_once = run_session(handlers, owner, request, request.size() + 1);
  require(at_once.next == one.next && at_once.reply == one.reply && at_once.terminated == one.terminated);
  if (one.next != Next::kReply || one.reply.size() == 8) return 0;  // a bare number is not read by an AnswerReader

  const bool confirmed = one.reply.starts_with(encode_number(kConfirmation));
  const Reading whole = read(one.reply, confirmed, kMaxReplyBytes, reply_piece);
  require(whole.good && whole.at_end && whole.answer.status.has_value());
  if (said) require(whole.answer.standard_output == *said + "\n");
  if (ended != 0) require(whole.answer.standard_output == description && whole.answer.standard_error == "ended\n");
  // A client with less patience for long answers gets as much of it as it wants, or nothing more.
  const Reading part = read(one.reply, confirmed, limit, reply_piece);
  const std::string& output = part.answer.standard_output;
  const std::string& error = part.answer.standard_error;
  require(output.size() + error.size() <= limit);
  require(part.good ? output == whole.answer.standard_output && error == whole.answer.standard_error && part.at_end
                    : one.reply.size() > limit);
  const Reading part_at_once = read(one.reply, confirmed, limit, one.reply.size());
  require(part_at_once.good == part.good && part_at_once.answer.standard_output == output);
  return 0;
}
