// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <ostream>

#include "nitro/eif/measure.h"

/// What goes to stdout. Scripts parse it: the names, their order and the two spaces of indentation are a public
/// interface. Descriptions of images are in nitro/eif/describe_json.h.
namespace nitro {

/// {"Measurements": {…}}, the answer of build-enclave and sign-eif.
[[nodiscard]] nlohmann::ordered_json build_info_json(const eif::Measurements& measurements);

/// Writes `json` and a newline. Characters that a terminal would obey appear as JSON's escapes, so that texts of images
/// and of other processes can be looked at; a JSON parser gets them as they are.
void print_json(std::ostream& out, const nlohmann::ordered_json& json);

}  // namespace nitro
