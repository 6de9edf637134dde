// SPDX-License-Identifier: Apache-2.0
// The parsers of what sections hold, without an image around it, which mutations seldom leave whole. The first byte
// chooses the parser.
#include <cstdint>
#include <cstdlib>

#include "eif/format/cose.h"
#include "eif/format/signature.h"
#include "nitro/eif/metadata.h"
#include "nitro/eif/sign.h"
#include "src/base/bytes.h"
#include "tests/fuzz/fuzz.h"

namespace eif = nitro::eif;

namespace {

using nitro::fuzz::require;

constexpr std::time_t kNow = 1800000000;

void metadata(std::string_view text) {
  const auto parsed = eif::parse_metadata(text);
  if (!parsed) return;
  const auto again = eif::parse_metadata(eif::serialize_metadata(*parsed));
  require(again.has_value());
  require(eif::serialize_metadata(*again) == eif::serialize_metadata(*parsed));
}

void signature_section(std::span<const std::byte> bytes) {
  const auto signatures = eif::parse_signature_section(bytes);
  if (!signatures) return;
  for (const eif::Signature& signature : *signatures) {
    static_cast<void>(eif::check_signature(signature, kNow));
    static_cast<void>(eif::read_certificate_info(signature.certificate_pem));
    static_cast<void>(eif::measure_certificate(signature.certificate_pem));
  }
  const auto again = eif::parse_signature_section(eif::encode_signature_section(*signatures));
  require(again && again->size() == signatures->size());
}

void cose(std::span<const std::byte> bytes) {
  const auto message = eif::parse_cose_sign1(bytes);
  if (!message) return;
  for (const std::size_t size : {32U, 48U, 66U}) {
    const auto der = eif::der_from_raw(message->signature, size);
    if (der) require(eif::raw_from_der(*der, size).has_value());
  }
  const auto payload = eif::parse_signed_register(message->payload);
  if (payload) require(eif::parse_signed_register(eif::encode_signed_register(*payload)).has_value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const auto bytes = std::as_bytes(std::span(data, size)).subspan(1);
  switch (data[0] % 4) {
    case 0:
      metadata(nitro::as_text(bytes));
      break;
    case 1:
      signature_section(bytes);
      break;
    case 2:
      cose(bytes);
      break;
    default:
      static_cast<void>(eif::read_certificate_info(nitro::as_text(bytes)));
      break;
  }
  return 0;
}
