// SPDX-License-Identifier: Apache-2.0
#include "eif/format/cose.h"

#include <limits>

#include "src/base/cbor.h"

namespace nitro::eif {
namespace {

constexpr std::uint64_t kSign1Tag = 18;
constexpr std::int64_t kAlgorithmLabel = 1;
constexpr std::string_view kRegisterIndex = "register_index";
constexpr std::string_view kRegisterValue = "register_value";

Failure malformed(std::string_view what) {
  return fail(ErrorCode::kEifParsing, "reading the image's signature: " + std::string(what) + "; sign the image again");
}

// Header maps have integer and text keys; only the algorithm matters here.
bool read_algorithm(std::span<const std::byte> header, std::optional<std::int64_t>& algorithm) {
  if (header.empty()) return true;  // an empty map may be encoded as zero bytes
  CborInput input(header);
  const auto pairs = input.map();
  if (!pairs) return false;
  for (std::uint64_t i = 0; i < *pairs; ++i) {
    CborInput ahead = input;
    if (ahead.integer() == kAlgorithmLabel) {
      algorithm = ahead.integer();
      if (!algorithm) return false;
      input = ahead;
    } else if (!input.skip() || !input.skip()) {
      return false;
    }
  }
  return input.at_end();
}

}  // namespace

Result<CoseSign1> parse_cose_sign1(std::span<const std::byte> message) {
  CborInput input(message);
  input.skip_tag(kSign1Tag);
  if (input.array() != 4) return malformed("it is no COSE_Sign1 message");
  const auto protected_header = input.byte_string();
  // The unprotected header is not signed, so nothing in it is trusted.
  const auto unprotected_pairs = input.map();
  for (std::uint64_t i = 0; unprotected_pairs && i < *unprotected_pairs; ++i) {
    if (!input.skip() || !input.skip()) break;
  }
  const auto payload = input.byte_string();
  const auto signature = input.byte_string();
  if (!protected_header || !unprotected_pairs || !payload || !signature || !input.at_end()) {
    return malformed("the parts of the COSE_Sign1 message are not what they should be");
  }
  CoseSign1 cose{.protected_header = *protected_header, .algorithm = {}, .payload = *payload, .signature = *signature};
  if (!read_algorithm(*protected_header, cose.algorithm)) return malformed("the protected header is broken");
  return cose;
}

std::vector<std::byte> cose_bytes_to_sign(std::span<const std::byte> protected_header,
                                          std::span<const std::byte> payload) {
  return CborOutput()
      .array(4)
      .text("Signature1")
      .byte_string(protected_header)
      .byte_string({})
      .byte_string(payload)
      .take();
}

std::vector<std::byte> cose_protected_header(std::int64_t algorithm) {
  return CborOutput().map(1).integer(kAlgorithmLabel).integer(algorithm).take();
}

std::vector<std::byte> encode_cose_sign1(std::span<const std::byte> protected_header,
                                         std::span<const std::byte> payload, std::span<const std::byte> signature) {
  return CborOutput().array(4).byte_string(protected_header).map(0).byte_string(payload).byte_string(signature).take();
}

Result<SignedRegister> parse_signed_register(std::span<const std::byte> payload) {
  CborInput input(payload);
  std::optional<std::int64_t> index;
  std::optional<Pcr> value;
  const auto pairs = input.map();
  for (std::uint64_t i = 0; pairs && i < *pairs && !input.failed(); ++i) {
    const auto key = input.text();
    if (key == kRegisterIndex) {
      index = input.integer();
    } else if (key == kRegisterValue) {
      value = input.byte_array();
    } else if (key) {
      input.skip();
    }
  }
  if (!index || !value || input.failed() || !input.at_end()) return malformed("its payload names no register");
  return SignedRegister{.index = *index, .value = std::move(*value)};
}

std::vector<std::byte> encode_signed_register(const SignedRegister& signed_register) {
  return CborOutput()
      .map(2)
      .text(kRegisterIndex)
      .integer(signed_register.index)
      .text(kRegisterValue)
      .byte_array(signed_register.value)
      .take();
}

}  // namespace nitro::eif
