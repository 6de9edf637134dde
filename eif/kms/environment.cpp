// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/environment.h"

#include <thread>

#include "src/base/environment.h"

namespace nitro::kms {

Environment Environment::of_process() {
  return {
      .variable = [](const char* name) { return environment_variable(name).value_or(""); },
      .send = [](const http::Request& request) { return http::send(request); },
      .now = [] { return std::time(nullptr); },
      .pause = [](std::chrono::milliseconds time) { std::this_thread::sleep_for(time); },
  };
}

}  // namespace nitro::kms
