// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bootstrap/allocator/config.h"
#include "bootstrap/allocator/plan.h"
#include "bootstrap/allocator/reservation.h"

namespace nitro::allocator {

/// "1 page of 1G and 256 of 2M, 1536 MiB".
[[nodiscard]] std::string text_of(const std::vector<Pages>& pages);
/// "NUMA node 0: CPUs 1-2,17-18; 1 page of 1G and 256 of 2M, 1536 MiB".
[[nodiscard]] std::string text_of(const Plan& plan);
[[nodiscard]] std::string text_of(const Reservation& reservation);

/// What --status shows.
struct Status {
  Result<AllocatorConfig> config;
  Topology topology;
  std::vector<std::string> enclaves;  ///< names of those that run
};
[[nodiscard]] std::string text_of(const Status& status);
[[nodiscard]] nlohmann::ordered_json json_of(const Status& status);

}  // namespace nitro::allocator
