// SPDX-License-Identifier: Apache-2.0
#include "nitro/eif/measure.h"

#include <string>

#include "eif/format/certificate.h"
#include "eif/format/digest.h"
#include "eif/format/image_digests.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"

namespace nitro::eif {
namespace {

// The reference prints its hasher type in debug format; its two programs were built with different versions of that
// type.
const char* spelled(HashAlgorithm algorithm, AlgorithmSpelling spelling) {
  const bool cli = spelling == AlgorithmSpelling::kNitroCli;
  switch (algorithm) {
    case HashAlgorithm::kSha256:
      return cli ? "Sha256 { .. }" : "Sha256 { ... }";
    case HashAlgorithm::kSha384:
      return cli ? "Sha512_48 { .. }" : "Sha384 { ... }";
    case HashAlgorithm::kSha512:
      return cli ? "Sha512 { .. }" : "Sha512 { ... }";
  }
  return "";
}

}  // namespace

std::size_t digest_size(HashAlgorithm algorithm) {
  switch (algorithm) {
    case HashAlgorithm::kSha256:
      return 32;
    case HashAlgorithm::kSha384:
      return 48;
    case HashAlgorithm::kSha512:
      return 64;
  }
  return 0;
}

nlohmann::ordered_json to_json(const Measurements& measurements, AlgorithmSpelling spelling) {
  nlohmann::ordered_json json;
  json["HashAlgorithm"] = spelled(measurements.algorithm, spelling);
  json["PCR0"] = to_hex(measurements.pcr0);
  json["PCR1"] = to_hex(measurements.pcr1);
  json["PCR2"] = to_hex(measurements.pcr2);
  if (measurements.pcr8) json["PCR8"] = to_hex(*measurements.pcr8);
  return json;
}

Result<Pcr> measure_stream(int fd, HashAlgorithm algorithm) {
  NITRO_TRY(Digest digest, Digest::create(algorithm));
  std::vector<std::byte> buffer(ImageDigests::kBufferBytes);
  for (;;) {
    NITRO_TRY(const std::size_t size, read_full(fd, buffer));
    digest.update(std::span(buffer).first(size));
    if (size < buffer.size()) return digest.finish_as_pcr();
  }
}

Result<Pcr> measure_bytes(std::span<const std::byte> content, HashAlgorithm algorithm) {
  NITRO_TRY(Digest digest, Digest::create(algorithm));
  digest.update(content);
  return digest.finish_as_pcr();
}

Result<Pcr> measure_certificate(std::string_view pem, HashAlgorithm algorithm) {
  NITRO_TRY(const Certificate certificate, Certificate::parse(pem, ErrorCode::kSigning));
  NITRO_TRY(const std::vector<std::byte> der, certificate.der());
  return measure_bytes(der, algorithm);
}

}  // namespace nitro::eif
