// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/evp.h>

#include <span>

#include "eif/format/certificate.h"
#include "nitro/eif/sign.h"

namespace nitro::eif {

/// Whether `key` made the signature in DER form (ECDSA-Sig-Value) over `message`.
[[nodiscard]] bool ecdsa_verifies(EVP_PKEY* key, const CurveRules& rules, std::span<const std::byte> message,
                                  std::span<const std::byte> der_signature);

/// Convert between r and s, concatenated and `integer_bytes` long each, and their DER form. Return nullopt if the input
/// has the wrong size or is not such a structure.
[[nodiscard]] std::optional<std::vector<std::byte>> der_from_raw(std::span<const std::byte> raw,
                                                                 std::size_t integer_bytes);
[[nodiscard]] std::optional<std::vector<std::byte>> raw_from_der(std::span<const std::byte> der,
                                                                 std::size_t integer_bytes);

/// Encodes the content of a signature section. The entries' certificates are stored unchanged.
[[nodiscard]] std::vector<std::byte> encode_signature_section(std::span<const Signature> signatures);

}  // namespace nitro::eif
