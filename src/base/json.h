// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "nitro/result.h"

namespace nitro {

/// Limits: bytes of a JSON text, values in it (keys not counted), and levels of arrays and objects. The largest
/// sensible text is an enclave process's description with all of an image's metadata; the depth is that of the
/// reference.
inline constexpr std::size_t kMaxJsonBytes = std::size_t{64} << 20;
inline constexpr std::size_t kMaxJsonValues = std::size_t{1} << 20;
inline constexpr std::size_t kMaxJsonDepth = 127;

/// Parses untrusted JSON; the only entry point for all of it. Time and memory are linear in the size of the text, and
/// code that later recurses over the value cannot run out of stack. Keys stay in the order of the text; of equal keys
/// the last value counts, at the place of the first. Numbers are rounded as in the reference, so that images are
/// identical.
///
/// Errors carry `code` and name the position in the text: invalid JSON, invalid UTF-8, a number out of range, a byte
/// order mark, or one of the limits above.
Result<nlohmann::ordered_json> parse_json(std::string_view text, ErrorCode code);

/// Returns `json` with the keys of every object sorted by their bytes.
[[nodiscard]] nlohmann::ordered_json with_sorted_keys(const nlohmann::ordered_json& json);

/// Returns the value at `key`, or nullptr if `json` is not an object, or the value is missing or null.
[[nodiscard]] const nlohmann::ordered_json* value_at(const nlohmann::ordered_json& json, std::string_view key);
/// Returns the array at `key`, or nullptr if there is none.
[[nodiscard]] const nlohmann::ordered_json* array_at(const nlohmann::ordered_json& json, std::string_view key);
/// Returns the string at `key` of the object `json`, or an empty string.
[[nodiscard]] std::string text_at(const nlohmann::ordered_json& json, std::string_view key);

}  // namespace nitro
