// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "nitro/fd.h"

namespace nitro::proxy {

/// Wakes a thread's event loop from other threads (eventfd(2)).
class Bell {
 public:
  /// An invalid one; for members that create() fills.
  Bell() = default;
  /// Errors: kEpoll.
  static Result<Bell> create();

  /// Becomes readable when the bell rings, until silence().
  [[nodiscard]] int fd() const { return fd_.get(); }
  /// From any thread.
  void ring() const;
  void silence() const;

 private:
  explicit Bell(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
};

}  // namespace nitro::proxy
