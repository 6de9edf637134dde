// SPDX-License-Identifier: Apache-2.0
#include "eif/image/digest.h"
#include "eif/image/source.h"
#include "nitro/bytes.h"
#include "nitro/json.h"

namespace nitro::image {

Result<nlohmann::ordered_json> parse_document(std::string_view text, std::string_view what) {
  auto json = parse_json(text, ErrorCode::kEifBuilding);
  if (!json) return fail_within(what, std::move(json).error());
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

}  // namespace nitro::image
