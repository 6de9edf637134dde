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

/// The hash function of measurements. The machines that run enclaves use SHA-384; the others are for comparison only.
enum class HashAlgorithm { kSha256, kSha384, kSha512 };

/// Returns the size of a digest in bytes: 32, 48 or 64.
[[nodiscard]] std::size_t digest_size(HashAlgorithm algorithm);

/// The value of one platform configuration register: hash(zeros || hash(content)), with as many zero bytes as a digest
/// has (image format, "PCR calculation").
using Pcr = std::vector<std::byte>;

/// The measurements that identify an image: PCR0 covers the kernel, the command line and all ramdisks; PCR1 the kernel,
/// the command line and the first ramdisk; PCR2 the other ramdisks; PCR8, for signed images only, the certificate
/// (DER).
struct Measurements {
  HashAlgorithm algorithm = HashAlgorithm::kSha384;
  Pcr pcr0{};
  Pcr pcr1{};
  Pcr pcr2{};
  std::optional<Pcr> pcr8{};

  bool operator==(const Measurements&) const = default;
};

/// The value of "HashAlgorithm" has two spellings, on which scripts may depend.
enum class AlgorithmSpelling {
  kNitroCli,  ///< "Sha512_48 { .. }" for SHA-384
  kEifBuild,  ///< "Sha384 { ... }"
};

/// Returns {"HashAlgorithm": …, "PCR0": …, "PCR1": …, "PCR2": …, "PCR8": …} in this order; digests in lower-case
/// hexadecimal, PCR8 only if there is one.
[[nodiscard]] nlohmann::ordered_json to_json(const Measurements& measurements,
                                             AlgorithmSpelling spelling = AlgorithmSpelling::kNitroCli);

/// Returns the PCR of everything that can be read from `fd` (borrowed) from its position on. Errors: kFileOperation,
/// kHasher.
Result<Pcr> measure_stream(int fd, HashAlgorithm algorithm = HashAlgorithm::kSha384);
/// Returns the PCR of `content`. Errors: kHasher.
Result<Pcr> measure_bytes(std::span<const std::byte> content, HashAlgorithm algorithm = HashAlgorithm::kSha384);
/// Returns PCR8 of images signed with the first certificate in the PEM text `pem`. Errors: kSigning when it contains
/// none; kHasher.
Result<Pcr> measure_certificate(std::string_view pem, HashAlgorithm algorithm = HashAlgorithm::kSha384);

}  // namespace nitro::eif
