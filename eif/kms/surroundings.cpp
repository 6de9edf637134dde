// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/surroundings.h"

#include <cstdlib>
#include <thread>

namespace nitro::kms {

Surroundings Surroundings::of_process() {
  return {
      .variable =
          [](const char* name) {
            const char* value = std::getenv(name);
            return std::string(value != nullptr ? value : "");
          },
      .send = [](const http::Request& request) { return http::send(request); },
      .now = [] { return std::time(nullptr); },
      .pause = [](std::chrono::milliseconds time) { std::this_thread::sleep_for(time); },
  };
}

}  // namespace nitro::kms
