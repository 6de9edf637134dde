// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <ctime>
#include <filesystem>
#include <string>
#include <vector>

#include "temp_folder.h"

namespace nitro::testing {

/// Files that the reference made, and their inputs (tests/data/golden).
inline std::string golden(const std::string& name) {
  return std::string(NITRO_TEST_DATA) + "/golden/" + name;
}

/// The folders below golden/eif that hold an image.
inline std::vector<std::string> golden_images() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden("eif"))) {
    if (std::filesystem::exists(entry.path() / "image.eif")) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// A time at which the golden certificates are valid: 2027-01-15.
inline constexpr std::time_t kGoldenNow = 1800000000;

}  // namespace nitro::testing
