// SPDX-License-Identifier: Apache-2.0
#include "output.h"

#include "nitro/eif/metadata.h"

namespace nitro {

nlohmann::ordered_json build_info_json(const eif::Measurements& measurements) {
  nlohmann::ordered_json json;
  json["Measurements"] = eif::to_json(measurements);
  return json;
}

void print_json(std::ostream& out, const nlohmann::ordered_json& json) {
  out << eif::json_text(json) << '\n';
}

}  // namespace nitro
