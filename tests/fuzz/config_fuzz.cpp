// SPDX-License-Identifier: Apache-2.0
// A file of run-enclave --config: settings, or an error of those that docs/errors.md has for it.
#include <cstdlib>
#include <iostream>

#include "src/base/bytes.h"
#include "src/cli/run_config.h"

using nitro::ErrorCode;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // It says what it makes of CID 0.
  std::cerr.setstate(std::ios::failbit);
  const auto settings = nitro::cli::parse_config(nitro::as_text(std::as_bytes(std::span(data, size))));
  if (settings) return 0;
  switch (settings.error().code()) {
    case ErrorCode::kSerde:
    case ErrorCode::kMissingArgument:
    case ErrorCode::kConflictingArgument:
    case ErrorCode::kInvalidArgument:
      return 0;
    default:
      std::abort();
  }
}
