// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <vector>

#include "nitro/fd.h"

// UndefinedBehaviorSanitizer sends an object's memory through a pipe of its own to see whether it can be read. Without
// a descriptor for that it reports a fault where there is none. The tests run in the other builds.
#ifdef __SANITIZE_ADDRESS__
#define NITRO_NEEDS_THE_LAST_DESCRIPTORS() GTEST_SKIP() << "the sanitizer needs descriptors itself"
#else
#define NITRO_NEEDS_THE_LAST_DESCRIPTORS() static_cast<void>(0)
#endif

namespace nitro::testing {

/// As long as it lives, this process can open `spare` descriptors more and then has reached its limit (EMFILE).
class DescriptorLimit {
 public:
  explicit DescriptorLimit(unsigned spare = 0) {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    // RLIMIT_NOFILE is one more than the highest number of a descriptor, and the lowest free number is taken first.
    std::vector<Fd> free;
    do free.emplace_back(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0));
    while (free.size() <= spare);
    rlimit lowered = before_;
    lowered.rlim_cur = static_cast<rlim_t>(free.back().get());
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &lowered), 0);
  }
  ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  DescriptorLimit(const DescriptorLimit&) = delete;
  DescriptorLimit& operator=(const DescriptorLimit&) = delete;

 private:
  rlimit before_{};
};

}  // namespace nitro::testing
