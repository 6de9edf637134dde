// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "nitro/result.h"
#include "vsock_proxy/relay/relay_loop.h"

namespace nitro::proxy {

/// Relays connections on several threads, each with an event loop of its own. A connection stays on one of them.
class RelayPool {
 public:
  /// Starts `threads` threads (at least 1), each with a RelayLoop that has `pipes` pipes. Signals must be blocked
  /// already, so that the threads receive none. Errors: kEpoll; kThreadJoin when a thread cannot be started.
  static Result<std::unique_ptr<RelayPool>> create(unsigned threads, std::size_t pipes);
  RelayPool(const RelayPool&) = delete;
  RelayPool& operator=(const RelayPool&) = delete;
  /// Resets all connections and waits for the threads.
  ~RelayPool();

  /// Gives a connection to the thread that has the fewest. From one thread only.
  void add(RelayJob job);

  /// Whether every thread has been through its loop since the last call; false means that one is stuck or very busy.
  /// The first call returns true. From one thread only.
  [[nodiscard]] bool check_alive();

 private:
  class Worker;
  explicit RelayPool(std::vector<std::unique_ptr<Worker>> workers);
  std::vector<std::unique_ptr<Worker>> workers_;
};

}  // namespace nitro::proxy
