// SPDX-License-Identifier: Apache-2.0
// What a client may send to an enclave process. The first byte: bit 0, whether the client is the owner; the rest, in
// how large pieces the bytes arrive.
#include <algorithm>
#include <cstdlib>

#include "enclave_proc/protocol/control_session.h"
#include "tests/fuzz/fuzz.h"

namespace {

using nitro::proc::ControlSession;
using nitro::proc::Reply;

// Small, so that an input can go beyond it.
constexpr std::uint64_t kMaxMessageBytes = 100;

bool ended = false;

const nitro::proc::ControlHandlers kHandlers = {
    .enclave_name = "image",
    .enclave_id = "i-0-enc1",
    .enclave_cid = 16,
    .enclave_flags = 1,
    .describe = [](bool with_metadata) { return std::string(with_metadata ? "{\"m\": 1}" : "{}"); },
    .terminate =
        [] {
          ended = true;
          return std::vector<Reply>{nitro::proc::StatusReply{0}};
        },
    .on_terminated = [] {},
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const bool owner = (data[0] & 1) != 0;
  const std::size_t piece = 1 + data[0] / 2;
  auto rest = std::as_bytes(std::span(data, size)).subspan(1);
  ended = false;
  ControlSession session(kHandlers, owner, kMaxMessageBytes);
  auto next = ControlSession::Next::kRead;
  while (next == ControlSession::Next::kRead && !rest.empty()) {
    const std::size_t count = std::min(piece, rest.size());
    next = session.take(rest.first(count));
    rest = rest.subspan(count);
  }
  // What is too long is not waited for.
  if (nitro::fuzz::announces_more_than(kMaxMessageBytes, std::as_bytes(std::span(data, size)).subspan(1)) &&
      next == ControlSession::Next::kRead)
    std::abort();
  // Only the owner ends the enclave, an answer comes exactly with kReply, and it is a short one.
  if (ended != session.terminated() || (ended && !owner)) std::abort();
  if (session.reply().empty() != (next != ControlSession::Next::kReply) || session.reply().size() > 1000) std::abort();
  return 0;
}
