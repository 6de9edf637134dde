// SPDX-License-Identifier: Apache-2.0
// What a process may answer to the command line. The first byte: bit 0, whether a confirmation is expected; the rest,
// in how large pieces the bytes arrive.
#include <algorithm>
#include <cstdlib>

#include "enclave_proc/answer_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const bool confirmed = (data[0] & 1) != 0;
  const std::size_t piece = 1 + data[0] / 2 * 4;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(1);
  nitro::proc::Answer answer;
  nitro::proc::AnswerReader reader(answer, confirmed);
  bool good = true;
  for (std::size_t at = 0; good && at < bytes.size(); at += piece)
    good = reader.take(bytes.subspan(at, std::min(piece, bytes.size() - at)));
  // Texts come from the bytes and nowhere else, and how these were cut makes no difference.
  if (answer.standard_output.size() + answer.standard_error.size() > size) std::abort();
  nitro::proc::Answer whole;
  nitro::proc::AnswerReader at_once(whole, confirmed);
  if (at_once.take(bytes) != good || whole.standard_output != answer.standard_output ||
      whole.standard_error != answer.standard_error || whole.status != answer.status ||
      (good && at_once.at_end() != reader.at_end())) {
    std::abort();
  }
  return 0;
}
