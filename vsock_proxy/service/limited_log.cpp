// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/service/limited_log.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <utility>

namespace nitro::proxy {

void LimitedLog::error(const std::string& kind, const std::string& message) {
  const auto now = std::chrono::steady_clock::now();
  Kind& state = kinds_[kind];
  if (now < state.next) {
    ++state.left_out;
    return;
  }
  state.next = now + kInterval;
  const std::uint64_t left_out = std::exchange(state.left_out, 0);
  const std::string more = left_out > 0 ? fmt::format(" ({} more like this before)", left_out) : "";
  SPDLOG_LOGGER_ERROR(&*log_, "{}{}", message, more);
}

}  // namespace nitro::proxy
