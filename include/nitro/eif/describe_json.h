// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>

#include "nitro/eif/metadata.h"
#include "nitro/eif/reader.h"

/// The JSON printed about images. Scripts parse it: the names and the order of the keys are a public interface.
namespace nitro::eif {

/// Returns the value of "Metadata" in descriptions of images and enclaves. The keys of the user's own metadata follow
/// ours; they go under "CustomMetadata" if they would hide one of ours, or if the user's metadata is not an object.
[[nodiscard]] nlohmann::ordered_json to_json(const Metadata& metadata);
/// Returns the output of describe-eif.
[[nodiscard]] nlohmann::ordered_json to_json(const Description& description);

}  // namespace nitro::eif
