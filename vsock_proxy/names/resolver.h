// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nitro/result.h"
#include "src/runtime/event_loop.h"
#include "vsock_proxy/config/address_block.h"
#include "vsock_proxy/config/routes.h"

namespace nitro::proxy {

/// Resolves names on an event loop, as /etc/hosts, nsswitch.conf and /etc/resolv.conf say (c-ares). Changed files are
/// read again.
///
/// Answers are kept as long as their time to live allows; several connections that wait for one name share one query.
/// While no server answers, an answer that has expired is used for up to kStaleTime (RFC 8767), so that a service stays
/// reachable when the resolver is not. Everything happens on the loop's thread.
class Resolver {
 public:
  static constexpr std::chrono::hours kStaleTime{1};
  /// Servers that did not answer are asked again after this time.
  static constexpr std::chrono::seconds kStaleRetry{5};
  /// A failure is kept this long, so that a flood of clients does not become a flood of queries.
  static constexpr std::chrono::seconds kFailureTime{1};
  /// Names that are kept. Beyond that, those that have expired make room, then any.
  static constexpr std::size_t kMaxNames = 4096;

  /// Never empty; in the order in which they should be tried (RFC 6724).
  using Addresses = std::vector<IpAddress>;
  using OnResult = std::function<void(const Result<Addresses>&)>;

  /// Interest in an answer; destroying it means that the callback will not be called.
  class Query {
   public:
    Query() = default;

   private:
    friend class Resolver;
    explicit Query(std::shared_ptr<OnResult> callback) : callback_(std::move(callback)) {}
    std::shared_ptr<OnResult> callback_;
  };

  /// Settings for tests; empty: the system's.
  struct Settings {
    std::string servers;  ///< "127.0.0.1:5353", comma-separated, instead of those in resolv.conf
    std::string resolv_conf;
    std::chrono::milliseconds try_time{2000};  ///< per server and try
    int tries = 3;
  };

  /// `loop` must outlive the resolver. Errors: kSocket.
  static Result<std::unique_ptr<Resolver>> create(EventLoop& loop, Settings settings);
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;
  ~Resolver();

  /// Calls back once, never before this function has returned. IP addresses in `host` need no query. Errors given to
  /// the callback: kSocket, with the name and the reason.
  [[nodiscard]] Query resolve(const std::string& host, Family family, OnResult on_result);

 private:
  class State;
  explicit Resolver(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace nitro::proxy
