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

/// Size limit of a manifest, an index or a configuration (the registries' own limit).
inline constexpr std::size_t kMaxDocumentBytes = std::size_t{4} << 20;
/// Limit for the memory needed to parse an answer that is not kept.
inline constexpr std::uint64_t kMaxAnswerHeldBytes = std::uint64_t{128} << 20;

/// A JSON document of an image, whose memory is charged as long as it lives.
class Document {
 public:
  /// A null document.
  Document() = default;
  Document(Charge charge, nlohmann::ordered_json json) : charge_(std::move(charge)), json_(std::move(json)) {}

  operator const nlohmann::ordered_json&() const { return json_; }
  const nlohmann::ordered_json& operator*() const { return json_; }
  const nlohmann::ordered_json* operator->() const { return &json_; }

 private:
  Charge charge_;
  nlohmann::ordered_json json_;
};

/// Parses a document of an image (src/base/json.h); `what` names it in messages. Memory is charged before it is used.
/// Errors: kEifBuilding.
Result<Document> parse_document(std::string_view text, std::string_view what, Budget& budget);
/// Parses a document that is not kept: an answer of an engine or a registry, a file of the user's. Errors:
/// kEifBuilding, also when it would need more than kMaxAnswerHeldBytes.
Result<nlohmann::ordered_json> parse_document(std::string_view text, std::string_view what);
/// Reads a document from a blob. `digest` is verified unless empty. Errors: also those of reading.
Result<Document> read_document(const Extent& blob, std::string_view digest, std::string_view what, Budget& budget);
/// Errors: kEifBuilding when a document has more than kMaxDocumentBytes. For callers that know the size in advance.
Result<void> check_document_size(std::uint64_t size_bytes, std::string_view what);

}  // namespace nitro::image
