// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <string>
#include <vector>

#include "nitro/result.h"
#include "src/runtime/event_loop.h"
#include "vsock_proxy/sockets/socket_address.h"

namespace nitro::proxy {

/// Connects to one of several addresses of a server without blocking: the next one is tried when one fails, or has not
/// answered after kHeadStart, while the earlier attempts go on; the first to connect wins. IPv6 and IPv4 take turns,
/// beginning with the family of the first address (RFC 8305, sections 4 and 5).
class Dial {
 public:
  static constexpr std::chrono::milliseconds kHeadStart{250};
  /// A Unix socket whose backlog is full is tried again after this time.
  static constexpr std::chrono::milliseconds kBacklogRetry{20};

  struct Connected {
    Fd socket;  ///< non-blocking, close-on-exec, tuned by tune_connection()
    SocketAddress address;
  };
  /// Called once, perhaps before start() has returned; may destroy the dial. Errors: kSocket, with what each address
  /// said, and the errno of the last.
  using OnDone = std::function<void(Result<Connected>)>;

  /// `loop` must outlive the dial. `addresses` is not empty.
  Dial(EventLoop& loop, std::vector<SocketAddress> addresses, std::chrono::nanoseconds time_limit, OnDone on_done);
  Dial(const Dial&) = delete;
  Dial& operator=(const Dial&) = delete;
  ~Dial() = default;
  void start();

 private:
  struct Attempt {
    SocketAddress address;
    Fd socket;
    EventLoop::Watch watch;
    EventLoop::Watch retry;
  };
  void next();
  void connect(Attempt& attempt);
  void fail(Attempt& attempt, int error);
  void finish(Result<Connected> result);

  EventLoop& loop_;
  std::vector<SocketAddress> addresses_;
  std::size_t next_ = 0;
  std::chrono::nanoseconds time_limit_;
  OnDone on_done_;
  std::list<Attempt> attempts_;  // under way
  std::string failures_;
  int last_error_ = 0;
  EventLoop::Watch head_start_;
  EventLoop::Watch limit_;
};

}  // namespace nitro::proxy
