// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/runtime/event_loop.h"
#include "vsock_proxy/config/routes.h"
#include "vsock_proxy/http_connect/request_head.h"
#include "vsock_proxy/names/resolver.h"
#include "vsock_proxy/service/counters.h"
#include "vsock_proxy/sockets/dial.h"

namespace nitro::proxy {

/// The local enclave that is served instead of this machine's vsock (docs/local-vsock.md).
struct LocalEnclave {
  std::string folder;  ///< of its vsock
  std::uint32_t cid = 0;
};

/// The way from an accepted client to a connected server: the request of an HTTP CONNECT route, the name, the
/// connection. Every step is limited in time, and none blocks.
class Opening {
 public:
  /// A client's request has to be complete after this time.
  static constexpr std::chrono::seconds kRequestTime{10};

  struct Refused {
    Refusal reason;
    std::string message;  ///< for the log; names the client and the server
  };
  struct Opened {
    Fd client;
    Fd server;
    std::vector<std::byte> from_client;  ///< what followed the client's request
    std::string server_name;             ///< for the log
    std::chrono::nanoseconds connect_time{};
  };
  using OnDone = std::function<void(tl::expected<Opened, Refused>)>;

  /// `loop`, `resolver` and `local` (null: none) must outlive this object.
  Opening(EventLoop& loop, Resolver& resolver, const LocalEnclave* local, std::shared_ptr<const Route> route, Fd client,
          std::string client_name, OnDone on_done);
  Opening(const Opening&) = delete;
  Opening& operator=(const Opening&) = delete;
  ~Opening() = default;
  /// Calls `on_done` once, perhaps before it returns; that may destroy this object.
  void start();

 private:
  void read_request();
  void take_request();
  void connect_to(const Endpoint& server);
  void resolved(const Endpoint& server, const Result<Resolver::Addresses>& addresses);
  void dial(const Endpoint& server, std::vector<SocketAddress> addresses);
  void connected(const Endpoint& server, Dial::Connected connection);
  void ask_local_enclave(std::uint32_t port);
  void take_local_answer();
  void finish();
  void refuse(Refusal reason, const std::string& why, std::string_view http_status);
  [[nodiscard]] std::chrono::nanoseconds time_left() const;

  EventLoop& loop_;
  Resolver& resolver_;
  const LocalEnclave* local_;
  std::shared_ptr<const Route> route_;
  Fd client_;
  std::string client_name_;
  OnDone on_done_;
  std::chrono::steady_clock::time_point begin_;
  EventLoop::Watch limit_;
  EventLoop::Watch watch_;
  RequestHead request_;  // of HTTP CONNECT
  Resolver::Query query_;
  std::optional<Dial> dial_;
  Fd server_;
  std::string server_name_;
  std::string local_answer_;
};

}  // namespace nitro::proxy
