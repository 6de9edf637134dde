// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>

#include "eif/image/extent.h"
#include "tests/fuzz/fuzz.h"

namespace nitro::fuzz {

/// The bytes as a file of an image, in memory.
inline image::Extent extent_of(std::string_view bytes) {
  return {std::make_shared<const Fd>(file_of(bytes)), 0, bytes.size()};
}

}  // namespace nitro::fuzz
