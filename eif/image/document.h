// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>

#include "eif/image/budget.h"
#include "eif/image/extent.h"
#include "nitro/result.h"
#include "src/base/json.h"

namespace nitro::image {

/// Most bytes of a manifest, an index or a configuration (the registries' own limit).
inline constexpr std::size_t kMaxDocumentBytes = std::size_t{4} << 20;
/// Most bytes of memory that an answer may need when it is parsed: for what is looked at and dropped.
inline constexpr std::uint64_t kMaxAnswerHeldBytes = std::uint64_t{128} << 20;

/// A JSON document of an image, whose memory is charged as long as it lives.
class Document {
 public:
  /// Null.
  Document() = default;
  Document(Charge charge, nlohmann::ordered_json json) : charge_(std::move(charge)), json_(std::move(json)) {}

  operator const nlohmann::ordered_json&() const { return json_; }
  const nlohmann::ordered_json& operator*() const { return json_; }
  const nlohmann::ordered_json* operator->() const { return &json_; }

 private:
  Charge charge_;
  nlohmann::ordered_json json_;
};

/// Parses a document of an image (src/base/json.h); `what` names it in messages. The memory is charged before any of it
/// is used. Errors: kEifBuilding.
Result<Document> parse_document(std::string_view text, std::string_view what, Budget& budget);
/// Parses what is looked at and dropped: an answer of an engine or a registry, a file of the user's. Errors:
/// kEifBuilding, also when it would need more than kMaxAnswerHeldBytes.
Result<nlohmann::ordered_json> parse_document(std::string_view text, std::string_view what);
/// Reads a document from a blob. `digest` is verified unless empty. Errors: also those of reading.
Result<Document> read_document(const Extent& blob, std::string_view digest, std::string_view what, Budget& budget);
/// Errors: kEifBuilding when a document has more than kMaxDocumentBytes. For callers that know the size before the
/// bytes.
Result<void> check_document_size(std::uint64_t size_bytes, std::string_view what);

}  // namespace nitro::image
