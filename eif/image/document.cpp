// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "eif/image/digest.h"
#include "eif/image/source.h"
#include "nitro/bytes.h"
#include "nitro/text.h"

namespace nitro::image {

namespace {
// How deep brackets nest outside of strings. Counted before parsing: a parsed tree of a million levels could not even
// be destroyed.
std::size_t depth_of(std::string_view text) {
  std::size_t depth = 0;
  std::size_t deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      deepest = std::max(deepest, ++depth);
    } else if ((c == '}' || c == ']') && depth > 0) {
      --depth;
    }
  }
  return deepest;
}
}  // namespace

Result<nlohmann::ordered_json> parse_document(std::string_view text, std::string_view what) {
  if (depth_of(text) > kMaxDocumentDepth) {
    return fail(ErrorCode::kEifBuilding,
                std::string(what) + " is nested deeper than " + std::to_string(kMaxDocumentDepth) + " levels");
  }
  if (has_byte_order_mark(text)) {
    return fail(ErrorCode::kEifBuilding,
                std::string(what) + " begins with a byte order mark, which JSON must not have; save it without one");
  }
  auto json = nlohmann::ordered_json::parse(text, nullptr, false);
  if (json.is_discarded()) return fail(ErrorCode::kEifBuilding, std::string(what) + " is not valid JSON");
  return json;
}

Result<nlohmann::ordered_json> read_document(const Extent& blob, std::string_view digest, std::string_view what) {
  auto text = blob.text(kMaxDocumentBytes);
  if (!text) return fail_within(what, std::move(text).error());
  if (!digest.empty()) {
    if (const auto actual = sha256(as_bytes(*text)); actual != digest) {
      return fail(ErrorCode::kEifBuilding, std::string(what) + " has the digest " + actual + " instead of " +
                                               quote(digest) + "; the image is damaged");
    }
  }
  return parse_document(*text, what);
}

const nlohmann::ordered_json* value_at(const nlohmann::ordered_json& json, std::string_view key) {
  if (!json.is_object()) return nullptr;
  const auto found = json.find(key);
  return found == json.end() || found->is_null() ? nullptr : &*found;
}

const nlohmann::ordered_json* array_at(const nlohmann::ordered_json& json, std::string_view key) {
  const auto* value = value_at(json, key);
  return value != nullptr && value->is_array() ? value : nullptr;
}

std::string text_at(const nlohmann::ordered_json& json, std::string_view key) {
  const auto* value = value_at(json, key);
  return value != nullptr && value->is_string() ? value->get<std::string>() : std::string();
}

}  // namespace nitro::image
