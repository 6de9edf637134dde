// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <memory>

namespace nitro::proc {

/// A filter for the system calls that an enclave process needs. It is built first and applied later: building needs
/// nothing but memory.
class SystemCallFilter {
 public:
  /// `engine`: the process that may be killed; -1: none.
  explicit SystemCallFilter(pid_t engine);
  ~SystemCallFilter();
  SystemCallFilter(const SystemCallFilter&) = delete;
  SystemCallFilter& operator=(const SystemCallFilter&) = delete;

  /// Refuses all other calls on every thread of this process from now on. Needs PR_SET_NO_NEW_PRIVS. Returns 0 or an
  /// errno.
  [[nodiscard]] int apply();

 private:
  class Filter;
  std::unique_ptr<Filter> filter_;
};

}  // namespace nitro::proc
