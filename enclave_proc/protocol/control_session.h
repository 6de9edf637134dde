// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "enclave_proc/protocol/protocol.h"

namespace nitro::proc {

/// The answers to a client; called on the loop's thread.
struct ControlHandlers {
  std::string enclave_name;
  std::string enclave_id;
  std::uint64_t enclave_cid = 0;
  std::uint64_t enclave_flags = 0;
  /// Returns the JSON text of a description.
  std::function<std::string(bool with_metadata)> describe;
  /// Ends the enclave and returns the replies for the client, in order.
  std::function<std::vector<Reply>()> terminate;
  /// Called after the replies to a terminate command have been sent.
  std::function<void()> on_terminated;
};

/// One session of a client with an enclave process, without its socket: a command sent twice, its arguments, the
/// answer. Passive: the owner of the socket passes received bytes to take() and sends what reply() returns. Holds at
/// most one message of the client.
class ControlSession {
 public:
  /// `owner`: the client may end the enclave; others may only query. `handlers` must outlive the session.
  ControlSession(const ControlHandlers& handlers, bool owner, std::uint64_t max_request_bytes = kMaxRequestBytes)
      : handlers_(handlers), owner_(owner), reader_(max_request_bytes) {}

  enum class Next : std::uint8_t {
    kRead,   ///< more bytes are needed
    kReply,  ///< the answer is ready; nothing more is read
    kEnd,    ///< a violation of the protocol: the connection is closed without an answer
  };
  /// Takes the next bytes. Must not be called again after it has returned kReply or kEnd.
  Next take(std::span<const std::byte> bytes);

  /// The whole answer, ready to be sent.
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
