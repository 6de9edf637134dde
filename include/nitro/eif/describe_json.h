// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "nitro/eif/metadata.h"
#include "nitro/eif/reader.h"

/// What is printed about images. Scripts parse it: the names of the keys and their order are a public interface.
namespace nitro::eif {

/// The value of "Metadata" in descriptions of images and of enclaves. The keys of the user's own metadata follow ours;
/// they stand under "CustomMetadata" when they would hide one of ours, or when the user's metadata is no object.
[[nodiscard]] nlohmann::ordered_json to_json(const Metadata& metadata);
/// The answer of describe-eif.
[[nodiscard]] nlohmann::ordered_json to_json(const Description& description);

}  // namespace nitro::eif
