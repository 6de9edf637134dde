// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <stdexcept>

namespace nitro::testing {

/// Makes root an ordinary user as long as it lives, so that what root may always do can be refused. Does nothing for an
/// ordinary user. Effective IDs only: a program with one thread at that time.
class OrdinaryUser {
 public:
  OrdinaryUser() {
    constexpr gid_t kNobodysGroup = 65534;
    constexpr uid_t kNobody = 65534;
    if (was_root_ && (::setegid(kNobodysGroup) != 0 || ::seteuid(kNobody) != 0)) {
      throw std::runtime_error("root cannot become an ordinary user");
    }
  }
  ~OrdinaryUser() {
    if (was_root_ && (::seteuid(0) != 0 || ::setegid(0) != 0)) std::terminate();
  }
  OrdinaryUser(const OrdinaryUser&) = delete;
  OrdinaryUser& operator=(const OrdinaryUser&) = delete;

 private:
  bool was_root_ = ::geteuid() == 0;
};

}  // namespace nitro::testing
