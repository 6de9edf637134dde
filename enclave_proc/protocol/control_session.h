// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "enclave_proc/protocol/protocol.h"

namespace nitro::proc {

/// What a client is answered from; called on the loop's thread.
struct ControlHandlers {
  std::string enclave_name;
  std::string enclave_id;
  std::uint64_t enclave_cid = 0;
  std::uint64_t enclave_flags = 0;
  /// The JSON text of a description.
  std::function<std::string(bool with_metadata)> describe;
  /// Ends the enclave and returns what the client is told, in order.
  std::function<std::vector<Reply>()> terminate;
  /// After the replies to a terminate command have been sent.
  std::function<void()> on_terminated;
};

/// One session of a client with an enclave process, without its socket: a command twice, its arguments, the answer.
/// Passive; the owner of the socket hands over what comes and sends what reply() returns. Holds no more than one
/// message of the client.
class ControlSession {
 public:
  /// `owner`: the client may end the enclave; others may only ask. `handlers` must outlive the session.
  ControlSession(const ControlHandlers& handlers, bool owner, std::uint64_t max_request_bytes = kMaxRequestBytes)
      : handlers_(handlers), owner_(owner), reader_(max_request_bytes) {}

  enum class Next : std::uint8_t {
    kRead,   ///< more bytes are needed
    kReply,  ///< the answer is there; nothing more is read
    kEnd,    ///< that is not the protocol: the connection ends without an answer
  };
  /// Takes the bytes that came next. Not to be called again after it has returned kReply or kEnd.
  Next take(std::span<const std::byte> bytes);

  /// All that the client is told, ready to be sent.
  [[nodiscard]] const std::string& reply() const { return reply_; }
  /// Whether the enclave was ended in this session.
  [[nodiscard]] bool terminated() const { return terminated_; }

 private:
  Next take_message(const std::vector<std::byte>& message);
  bool answer(const std::vector<std::byte>& arguments);
  void tell(const Reply& reply) { reply_ += encode(reply); }

  const ControlHandlers& handlers_;
  bool owner_;
  MessageReader reader_;
  int messages_ = 0;
  Command command_ = Command::kNotPermitted;
  bool terminated_ = false;
  std::string reply_;
};

}  // namespace nitro::proc
