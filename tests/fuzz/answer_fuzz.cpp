// SPDX-License-Identifier: Apache-2.0
// What a process may answer to the command line. The first byte: bit 0, whether a confirmation is expected; the rest,
// in how large pieces the bytes arrive.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "enclave_proc/protocol/answer_reader.h"
#include "nitro/eif/metadata.h"
#include "src/base/json.h"
#include "tests/fuzz/fuzz.h"

namespace {

// Small, so that an input can go beyond it.
constexpr std::uint64_t kMaxAnswerBytes = 6000;

/// Whether two values say the same. Numbers with a fraction or of many digits are rounded each time they are read, as
/// the reference rounds them, which is not always to the nearest.
bool same(const nlohmann::ordered_json& a, const nlohmann::ordered_json& b) {
  if (a.is_number_float() && b.is_number_float()) {
    const auto x = a.get<double>();
    const auto y = b.get<double>();
    return std::abs(x - y) <= 1e-14 * std::abs(x);
  }
  if (!a.is_structured() || !b.is_structured()) return a == b;
  if (a.type() != b.type() || a.size() != b.size()) return false;
  auto other = b.items().begin();
  for (const auto& item : a.items()) {
    if (item.key() != other.key() || !same(item.value(), other.value())) return false;
    ++other;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const bool confirmed = (data[0] & 1) != 0;
  const std::size_t piece = 1 + std::size_t{data[0]} / 2 * 4;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(1);
  nitro::proc::Answer answer;
  nitro::proc::AnswerReader reader(answer, confirmed, kMaxAnswerBytes);
  bool good = true;
  for (std::size_t at = 0; good && at < bytes.size(); at += piece)
    good = reader.take(bytes.subspan(at, std::min(piece, bytes.size() - at)));
  // What is too long is not waited for.
  if (good && nitro::fuzz::announces_more_than(kMaxAnswerBytes,
                                               bytes.subspan(std::min<std::size_t>(confirmed ? 8 : 0, bytes.size()))))
    std::abort();
  // Texts come from the bytes and nowhere else, and how these were cut makes no difference.
  const std::size_t texts = answer.standard_output.size() + answer.standard_error.size();
  if (texts > std::min<std::size_t>(size, kMaxAnswerBytes)) std::abort();
  nitro::proc::Answer whole;
  nitro::proc::AnswerReader at_once(whole, confirmed, kMaxAnswerBytes);
  if (at_once.take(bytes) != good || whole.standard_output != answer.standard_output ||
      whole.standard_error != answer.standard_error || whole.status != answer.status ||
      (good && at_once.at_end() != reader.at_end())) {
    std::abort();
  }
  // What is printed of it says the same.
  if (const auto json = nitro::parse_json(answer.standard_output, nitro::ErrorCode::kSerde)) {
    const auto again = nitro::parse_json(nitro::eif::json_text(*json), nitro::ErrorCode::kSerde);
    if (!again || !same(*json, *again)) std::abort();
  }
  return 0;
}
