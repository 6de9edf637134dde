// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "nitro/result.h"

namespace nitro::eif {

/// What an image is measured with. The machines that run enclaves measure with SHA-384; the others are for comparison
/// only.
enum class HashAlgorithm { kSha256, kSha384, kSha512 };

/// Bytes of one digest: 32, 48 or 64.
[[nodiscard]] std::size_t digest_size(HashAlgorithm algorithm);

/// The value of one platform configuration register: hash(zeros || hash(content)), as many zero bytes as a digest has
/// (image format, "PCR calculation").
using Pcr = std::vector<std::byte>;

/// What identifies an image: PCR0 the kernel, the command line and all ramdisks; PCR1 the kernel, the command line and
/// the first ramdisk; PCR2 the other ramdisks; PCR8, of signed images only, the certificate (DER).
struct Measurements {
  HashAlgorithm algorithm = HashAlgorithm::kSha384;
  Pcr pcr0{};
  Pcr pcr1{};
  Pcr pcr2{};
  std::optional<Pcr> pcr8{};

  bool operator==(const Measurements&) const = default;
};

/// The value of "HashAlgorithm" is spelled in two ways that scripts may depend on.
enum class AlgorithmSpelling {
  kNitroCli,  ///< "Sha512_48 { .. }" for SHA-384
  kEifBuild,  ///< "Sha384 { ... }"
};

/// {"HashAlgorithm": …, "PCR0": …, "PCR1": …, "PCR2": …, "PCR8": …} in this order; digests in lower-case hexadecimal,
/// PCR8 only when there is one.
[[nodiscard]] nlohmann::ordered_json to_json(const Measurements& measurements,
                                             AlgorithmSpelling spelling = AlgorithmSpelling::kNitroCli);

/// The PCR whose content is all that can be read from `fd` (borrowed) from its position on. Errors: kFileOperation,
/// kHasher.
Result<Pcr> measure_stream(int fd, HashAlgorithm algorithm = HashAlgorithm::kSha384);
/// The PCR whose content is `content`. Errors: kHasher.
Result<Pcr> measure_bytes(std::span<const std::byte> content, HashAlgorithm algorithm = HashAlgorithm::kSha384);
/// PCR8 of images signed with the first certificate of the PEM text `pem`. Errors: kSigning when there is none in it;
/// kHasher.
Result<Pcr> measure_certificate(std::string_view pem, HashAlgorithm algorithm = HashAlgorithm::kSha384);

}  // namespace nitro::eif
