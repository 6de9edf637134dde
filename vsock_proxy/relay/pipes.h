// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <vector>

#include "nitro/fd.h"

namespace nitro::proxy {

/// A pipe through which bytes go from one socket to another without a copy in this process (splice(2)).
class Pipe {
 public:
  /// Returns nullptr if the kernel grants no pipe of `size_bytes`: descriptors or the user's share of memory for pipes
  /// are used up (pipe(7)).
  static std::unique_ptr<Pipe> create(std::size_t size_bytes);

  /// Moves what `socket` has, as far as there is room, into the empty pipe. Returns as recv(2) does.
  [[nodiscard]] ssize_t fill(int socket);
  /// Moves what is held, or the part that fits, into `socket`. Returns as send(2) does; where send(2) would raise
  /// SIGPIPE, so does this.
  [[nodiscard]] ssize_t drain(int socket);

  [[nodiscard]] std::size_t held_bytes() const { return held_bytes_; }

 private:
  Pipe(Fd out, Fd in, std::size_t size_bytes) : out_(std::move(out)), in_(std::move(in)), size_bytes_(size_bytes) {}
  Fd out_;
  Fd in_;
  std::size_t size_bytes_;
  std::size_t held_bytes_ = 0;
};

/// The pipes of a thread. Must outlive what it lends.
class Pipes {
 public:
  /// Lends at most `most` pipes of `size_bytes` at a time; keeps about as many in reserve.
  Pipes(std::size_t most, std::size_t size_bytes) : most_(most), size_bytes_(size_bytes) {}
  Pipes(const Pipes&) = delete;
  Pipes& operator=(const Pipes&) = delete;
  ~Pipes() = default;

  struct GiveBack {
    Pipes* pipes = nullptr;
    void operator()(Pipe* pipe) const;
  };
  using Lent = std::unique_ptr<Pipe, GiveBack>;
  /// Returns an empty pipe, or nullptr if there is none to be had now. One that still holds bytes when it is given back
  /// is closed.
  [[nodiscard]] Lent borrow();

 private:
  std::size_t most_;
  std::size_t size_bytes_;
  std::size_t lent_ = 0;
  // One serves all connections whose receivers keep up. Those that do not come and go quickly, so as many wait for
  // them as they hold.
  std::vector<std::unique_ptr<Pipe>> spare_;
};

}  // namespace nitro::proxy
