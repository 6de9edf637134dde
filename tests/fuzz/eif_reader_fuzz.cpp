// SPDX-License-Identifier: Apache-2.0
// Any bytes as an image file: opening, describing and printing must end with an answer or an error of the input.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "nitro/eif/describe_json.h"
#include "nitro/eif/reader.h"
#include "tests/fuzz/fuzz.h"

using nitro::ErrorCode;
using nitro::Fd;
namespace eif = nitro::eif;

namespace {

using nitro::fuzz::require;

void check(const eif::Reader& reader) {
  std::uint64_t end = 548;
  for (const eif::Section& section : reader.sections()) {
    require(section.offset_bytes == end + 12);
    end = section.offset_bytes + section.size_bytes;
  }
  require(end == reader.file_size_bytes());

  const auto description = reader.describe();
  const auto metadata = reader.metadata();
  const auto signatures = reader.signatures();
  static_cast<void>(reader.command_line());
  if (!description) {
    require(description.error().code() == ErrorCode::kEifParsing);
    return;
  }
  // The one pass and the single questions agree.
  require(metadata && *metadata == description->metadata);
  require(signatures && signatures->empty() == !description->signature.has_value());
  require(!eif::json_text(eif::to_json(*description)).empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Fd file(::memfd_create("image", MFD_CLOEXEC));
  require(::ftruncate(file.get(), 0) == 0);
  require(nitro::pwrite_all(file.get(), std::as_bytes(std::span(data, size)), 0).has_value());
  const auto reader = eif::Reader::open(Fd(::dup(file.get())), "x.eif");
  if (reader) {
    check(*reader);
  } else {
    require(reader.error().code() == ErrorCode::kEifParsing);
  }
  return 0;
}
