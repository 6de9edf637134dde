// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <ctime>
#include <functional>
#include <string>

#include "nitro/result.h"
#include "src/http/http.h"

namespace nitro::kms {

/// The edge of the process, as signing with a key service sees it; tests hand in their own.
struct Environment {
  /// An environment variable. Empty when it is not set: AWS's tools take an empty one for none.
  std::function<std::string(const char* name)> variable;
  std::function<Result<http::Response>(const http::Request& request)> send;
  std::function<std::time_t()> now;
  std::function<void(std::chrono::milliseconds time)> pause;

  /// The environment, network and clock of this process.
  static Environment of_process();
};

}  // namespace nitro::kms
