// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <memory>

namespace nitro::proc {

/// The system calls that an enclave process needs. Made in one step and applied in another: making needs memory only.
class SystemCallFilter {
 public:
  /// `engine`: the process that may be killed; -1: none.
  explicit SystemCallFilter(pid_t engine);
  ~SystemCallFilter();
  SystemCallFilter(const SystemCallFilter&) = delete;
  SystemCallFilter& operator=(const SystemCallFilter&) = delete;

  /// From now on no thread of this process makes another one. Needs PR_SET_NO_NEW_PRIVS. Returns 0 or an errno.
  [[nodiscard]] int apply();

 private:
  class Filter;
  std::unique_ptr<Filter> filter_;
};

}  // namespace nitro::proc
