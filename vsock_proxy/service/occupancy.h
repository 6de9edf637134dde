// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "vsock_proxy/relay/bell.h"

namespace nitro::proxy {

/// Counts the clients that hold a place, from being accepted to the end of their connection, and wakes the main thread
/// when it waits for one to leave. Places are taken on the main thread and given back on any.
class Occupancy {
 public:
  /// Errors: kEpoll.
  static Result<std::shared_ptr<Occupancy>> create();

  /// A client's place; destroying it gives it back.
  class Place {
   public:
    Place(std::shared_ptr<Occupancy> all, std::shared_ptr<std::atomic<std::uint64_t>> of_route);
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place();

   private:
    std::shared_ptr<Occupancy> all_;
    std::shared_ptr<std::atomic<std::uint64_t>> of_route_;
  };

  [[nodiscard]] std::uint64_t taken() const { return taken_; }
  /// Rings when a place was given back after wait().
  [[nodiscard]] const Bell& bell() const { return bell_; }
  /// Asks for the bell. Look at the counts again afterwards: a place may have been given back just before.
  void wait() { waiting_ = true; }

 private:
  Occupancy() = default;
  std::atomic<std::uint64_t> taken_{0};
  std::atomic<bool> waiting_{false};
  Bell bell_;
};

}  // namespace nitro::proxy
