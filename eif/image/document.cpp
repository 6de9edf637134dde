// SPDX-License-Identifier: Apache-2.0
#include "eif/image/document.h"

#include "eif/image/digest.h"
#include "src/base/bytes.h"

namespace nitro::image {

namespace {

// An upper bound for the memory that the parsed text needs at any moment, including growing lists. A value takes 16
// bytes of its list, and its name 32 more; a growing list has up to three times the size of its content; a string, a
// list or an object has its own block. Characters inside strings count like those outside.
std::uint64_t held_bytes(std::string_view text) {
  constexpr std::uint64_t kValueBytes = 3 * 16 + 48;
  constexpr std::uint64_t kNameBytes = 3 * 32 + 48;
  std::uint64_t bytes = kValueBytes + 3 * std::uint64_t{text.size()};
  for (const char c : text) {
    if (c == ',' || c == '[' || c == '{') bytes += kValueBytes;
    if (c == ':') bytes += kNameBytes;
  }
  return bytes;
}

Result<nlohmann::ordered_json> parsed(std::string_view text, std::string_view what) {
  auto json = parse_json(text, ErrorCode::kEifBuilding);
  if (!json) return fail_within(what, std::move(json).error());
  return json;
}

}  // namespace

Result<void> check_document_size(std::uint64_t size_bytes, std::string_view what) {
  if (size_bytes <= kMaxDocumentBytes) return {};
  return fail(ErrorCode::kEifBuilding, std::string(what) + " is " + std::to_string(size_bytes) +
                                           " bytes long, more than the " + std::to_string(kMaxDocumentBytes) +
                                           " that are read");
}

Result<Document> parse_document(std::string_view text, std::string_view what, Budget& budget) {
  NITRO_CHECK(check_document_size(text.size(), what));
  auto charge = Charge::of(budget, held_bytes(text));
  if (!charge) return fail_within(what, std::move(charge).error());
  NITRO_TRY(auto json, parsed(text, what));
  return Document(*std::move(charge), std::move(json));
}

Result<nlohmann::ordered_json> parse_document(std::string_view text, std::string_view what) {
  Budget answer(kMaxAnswerHeldBytes);
  if (const auto charge = Charge::of(answer, held_bytes(text)); !charge) {
    return fail(ErrorCode::kEifBuilding, std::string(what) + " is too large to be read");
  }
  return parsed(text, what);
}

Result<Document> read_document(const Extent& blob, std::string_view digest, std::string_view what, Budget& budget) {
  NITRO_CHECK(check_document_size(blob.size_bytes, what));
  auto text = blob.text(kMaxDocumentBytes);
  if (!text) return fail_within(what, std::move(text).error());
  if (!digest.empty()) {
    if (const auto actual = sha256(as_bytes(*text)); actual != digest) {
      return fail(ErrorCode::kEifBuilding, std::string(what) + " has the digest " + actual + " instead of " +
                                               quote(digest) + "; the image is damaged");
    }
  }
  return parse_document(*text, what, budget);
}

}  // namespace nitro::image
