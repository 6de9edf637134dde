// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "nitro/result.h"

namespace nitro {

/// Most bytes of a JSON text, most values in it (keys not counted), and most levels of arrays and objects. The largest
/// text that makes sense is an enclave process's description with all of an image's metadata; the depth is that of the
/// reference.
inline constexpr std::size_t kMaxJsonBytes = std::size_t{64} << 20;
inline constexpr std::size_t kMaxJsonValues = std::size_t{1} << 20;
inline constexpr std::size_t kMaxJsonDepth = 127;

/// Parses JSON that nobody vouches for; the only way in for all of it. Time and memory grow with the text, not faster,
/// and what recurses over the value later cannot run out of stack. Keys stay in the order of the text; of equal keys
/// the last value counts, at the place of the first. Numbers are rounded as the reference rounds them, so that images
/// are the same.
///
/// Errors carry `code` and say where in the text: no JSON, no UTF-8, a number out of range, a byte order mark, or one
/// of the limits above.
Result<nlohmann::ordered_json> parse_json(std::string_view text, ErrorCode code);

/// `json` with the keys of every object in it in the order of their bytes.
[[nodiscard]] nlohmann::ordered_json with_sorted_keys(const nlohmann::ordered_json& json);

/// The value at `key`; nullptr when `json` is no object, or the value is missing or null.
[[nodiscard]] const nlohmann::ordered_json* value_at(const nlohmann::ordered_json& json, std::string_view key);
/// The array at `key`; nullptr when there is none.
[[nodiscard]] const nlohmann::ordered_json* array_at(const nlohmann::ordered_json& json, std::string_view key);
/// The string at `key` of the object `json`, or empty.
[[nodiscard]] std::string text_at(const nlohmann::ordered_json& json, std::string_view key);

}  // namespace nitro
