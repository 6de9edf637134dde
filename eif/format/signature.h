// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/evp.h>

#include <span>

#include "eif/format/certificate.h"
#include "nitro/eif/sign.h"

namespace nitro::eif {

/// Whether the signature in DER form (ECDSA-Sig-Value) over `message` was made by `key`.
[[nodiscard]] bool ecdsa_verifies(EVP_PKEY* key, const CurveRules& rules, std::span<const std::byte> message,
                                  std::span<const std::byte> der_signature);

/// r and s one after the other, each `integer_bytes` long, and the DER form of the same. Nothing when the one is not of
/// the size, or the other is no such structure.
[[nodiscard]] std::optional<std::vector<std::byte>> der_from_raw(std::span<const std::byte> raw,
                                                                 std::size_t integer_bytes);
[[nodiscard]] std::optional<std::vector<std::byte>> raw_from_der(std::span<const std::byte> der,
                                                                 std::size_t integer_bytes);

/// The content of a signature section. The entries' certificates are stored as they are.
[[nodiscard]] std::vector<std::byte> encode_signature_section(std::span<const Signature> signatures);

}  // namespace nitro::eif
