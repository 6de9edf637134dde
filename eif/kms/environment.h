// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <ctime>
#include <functional>
#include <string>

#include "nitro/result.h"
#include "src/http/http.h"

namespace nitro::kms {

/// The outside world as seen by signing with a key service; tests pass their own.
struct Environment {
  /// Returns an environment variable, or an empty string if it is not set: the AWS tools do not distinguish the two.
  std::function<std::string(const char* name)> variable;
  std::function<Result<http::Response>(const http::Request& request)> send;
  std::function<std::time_t()> now;
  std::function<void(std::chrono::milliseconds time)> pause;

  /// The environment, network and clock of this process.
  static Environment of_process();
};

}  // namespace nitro::kms
