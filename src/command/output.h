// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <ostream>

#include "nitro/eif/measure.h"

/// Output on stdout. Scripts parse it: the names, their order and the indentation of two spaces are a public interface.
/// Descriptions of images are in nitro/eif/describe_json.h.
namespace nitro {

/// Returns {"Measurements": {…}}, the output of build-enclave and sign-eif.
[[nodiscard]] nlohmann::ordered_json build_info_json(const eif::Measurements& measurements);

/// Writes `json` and a newline. Characters that control a terminal are written as JSON escapes, so that texts of images
/// and of other processes are safe to display; a JSON parser gets the original characters.
void print_json(std::ostream& out, const nlohmann::ordered_json& json);

}  // namespace nitro
