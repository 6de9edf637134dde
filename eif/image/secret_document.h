// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "src/base/secret.h"

namespace nitro::image {

/// Overwrites every string of a document that contains passwords or tokens, at the end of the scope. `document` is
/// borrowed and must outlive this object.
class WipedDocument {
 public:
  explicit WipedDocument(nlohmann::ordered_json& document) : document_(document) {}
  WipedDocument(const WipedDocument&) = delete;
  WipedDocument& operator=(const WipedDocument&) = delete;
  ~WipedDocument() { wipe(document_); }

 private:
  static void wipe(nlohmann::ordered_json& value) {
    if (value.is_string()) Secret::wipe(value.get_ref<std::string&>());
    if (!value.is_structured()) return;
    for (auto& child : value) wipe(child);
  }

  nlohmann::ordered_json& document_;
};

}  // namespace nitro::image
