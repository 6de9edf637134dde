// SPDX-License-Identifier: Apache-2.0
#include "src/command/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "nitro/eif/metadata.h"
#include "src/base/bytes.h"

namespace nitro {
namespace {

std::size_t sequence_size(char first) {
  const auto byte = static_cast<unsigned char>(first);
  return byte < 0xc0 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

// Returns the code point that `sequence`, of two or more bytes, encodes, or nullopt if it is not UTF-8.
std::optional<std::uint32_t> decoded(std::string_view sequence) {
  const std::size_t size = sequence_size(sequence.front());
  if (size == 1 || sequence.size() != size) return std::nullopt;
  std::uint32_t value = static_cast<unsigned char>(sequence.front()) & (0xffU >> (size + 1));
  for (const char c : sequence.substr(1)) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte & 0xc0) != 0x80) return std::nullopt;
    value = value << 6 | (byte & 0x3f);
  }
  return value;
}

// Returns `json` with characters that are not printable escaped. It can contain such characters in strings only.
std::string fit_for_terminals(std::string_view json) {
  constexpr std::uint32_t kReplacement = 0xfffd;
  std::string result;
  result.reserve(json.size());
  while (!json.empty()) {
    const auto ordinary = static_cast<std::size_t>(
        std::find_if(json.begin(), json.end(), [](unsigned char c) { return c >= 0x7f; }) - json.begin());
    result += json.substr(0, ordinary);
    json.remove_prefix(ordinary);
    if (json.empty()) break;
    const auto sequence = json.substr(0, sequence_size(json.front()));
    json.remove_prefix(sequence.size());
    if (printable(sequence) == sequence) {
      result += sequence;
      continue;
    }
    const auto value = sequence.front() == 0x7f ? 0x7f : decoded(sequence).value_or(kReplacement);
    // Beyond 16 bits: a pair of surrogates (RFC 8259, section 7).
    result += value < 0x10000 ? fmt::format("\\u{:04x}", value)
                              : fmt::format("\\u{:04x}\\u{:04x}", 0xd800 + ((value - 0x10000) >> 10),
                                            0xdc00 + ((value - 0x10000) & 0x3ff));
  }
  return result;
}

}  // namespace

nlohmann::ordered_json build_info_json(const eif::Measurements& measurements) {
  nlohmann::ordered_json json;
  json["Measurements"] = eif::to_json(measurements);
  return json;
}

void print_json(std::ostream& out, const nlohmann::ordered_json& json) {
  out << fit_for_terminals(eif::json_text(json)) << '\n';
}

}  // namespace nitro
