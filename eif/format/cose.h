// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "nitro/eif/measure.h"

namespace nitro::eif {

/// A COSE_Sign1 message (RFC 8152, section 4.2): an array of four, optionally with tag 18. Spans point into the
/// message.
struct CoseSign1 {
  std::span<const std::byte> protected_header;  // encoded map, with the algorithm under key 1
  std::optional<std::int64_t> algorithm;
  std::span<const std::byte> payload;
  std::span<const std::byte> signature;  // r and s, big-endian, each as long as the curve's field
};

/// Errors: kEifParsing.
Result<CoseSign1> parse_cose_sign1(std::span<const std::byte> message);

/// Returns the bytes to be signed: Sig_structure of section 4.4, without external data.
[[nodiscard]] std::vector<std::byte> cose_bytes_to_sign(std::span<const std::byte> protected_header,
                                                        std::span<const std::byte> payload);
/// Returns the protected header {1: algorithm}.
[[nodiscard]] std::vector<std::byte> cose_protected_header(std::int64_t algorithm);
/// Returns the message without a tag and with an empty unprotected header, as in the reference.
[[nodiscard]] std::vector<std::byte> encode_cose_sign1(std::span<const std::byte> protected_header,
                                                       std::span<const std::byte> payload,
                                                       std::span<const std::byte> signature);

/// The payload of an image's signature: a register and its value.
struct SignedRegister {
  std::int64_t index = 0;
  Pcr value;
};
/// Errors: kEifParsing.
Result<SignedRegister> parse_signed_register(std::span<const std::byte> payload);
[[nodiscard]] std::vector<std::byte> encode_signed_register(const SignedRegister& signed_register);

}  // namespace nitro::eif
