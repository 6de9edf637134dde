// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "src/runtime/log.h"

namespace nitro::proxy {

/// Logs what clients and servers can cause as often as they like, each kind at most once in kInterval; how many
/// messages were left out is said with the next one.
class LimitedLog {
 public:
  static constexpr std::chrono::seconds kInterval{10};

  /// `log` must outlive this object.
  explicit LimitedLog(Log& log) : log_(log) {}
  void error(const std::string& kind, const std::string& message);

 private:
  struct Kind {
    std::chrono::steady_clock::time_point next;
    std::uint64_t left_out = 0;
  };
  Log& log_;
  std::map<std::string, Kind> kinds_;
};

}  // namespace nitro::proxy
