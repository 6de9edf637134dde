// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/open_signer.h"

#include <fmt/format.h>

#include <utility>

#include "eif/format/certificate.h"
#include "eif/kms/client.h"
#include "eif/kms/key_arn.h"
#include "src/base/bytes.h"

namespace nitro::kms {

namespace {

const char* signing_algorithm(const eif::CurveRules& rules) {
  switch (rules.hash) {
    case eif::HashAlgorithm::kSha256:
      return "ECDSA_SHA_256";
    case eif::HashAlgorithm::kSha384:
      return "ECDSA_SHA_384";
    case eif::HashAlgorithm::kSha512:
      break;
  }
  return "ECDSA_SHA_512";
}

// Returns nullptr if it is not a key.
eif::Key key_in(std::span<const std::byte> der) {
  // OpenSSL's byte type is unsigned char, which may alias any object (C++20 [basic.lval]/11).
  const auto* data = reinterpret_cast<const unsigned char*>(der.data());
  eif::Key key(d2i_PUBKEY(nullptr, &data, static_cast<long>(der.size())));
  (void)eif::openssl_reason();
  return key;
}

class KmsSigner : public eif::Signer {
 public:
  KmsSigner(Client client, const char* algorithm, eif::PemCertificates certificates)
      : client_(std::move(client)), algorithm_(algorithm), certificates_(std::move(certificates)) {}

  [[nodiscard]] const std::string& certificate_pem() const override { return certificates_.pem; }
  [[nodiscard]] std::vector<std::string> keys_left_out() const override { return certificates_.key_labels; }
  Result<std::vector<std::byte>> sign_digest(std::span<const std::byte> digest) const override {
    return client_.sign(algorithm_, digest);
  }

 private:
  mutable Client client_;  // it may have to get fresh credentials
  const char* algorithm_;
  eif::PemCertificates certificates_;
};

}  // namespace

Result<std::unique_ptr<eif::Signer>> open_signer(const std::string& private_key, const std::string& certificate_path,
                                                 const Environment& environment) {
  for (const auto& [option, value] :
       {std::pair("--private-key", &private_key), std::pair("--signing-certificate", &certificate_path)}) {
    if (value->empty()) return fail(ErrorCode::kSigning, fmt::format("{} is empty; name a file", option));
  }
  if (!is_arn(private_key)) return eif::load_signer(private_key, certificate_path, environment.now());
  NITRO_TRY(const auto arn, parse_key_arn(private_key));
  NITRO_TRY(auto certificate, eif::read_signing_certificate(certificate_path, environment.now()));
  Client client(arn, environment);
  NITRO_TRY(const auto told, client.public_key());
  const auto key = key_in(told.der);
  const auto rules = eif::curve_rules(key.get());
  if (told.usage != "SIGN_VERIFY" || !rules) {
    return fail(ErrorCode::kSigning,
                fmt::format("the key {} is of the kind {} and for {}; images are signed with keys of the kind "
                            "ECC_NIST_P256, ECC_NIST_P384 or ECC_NIST_P521 for SIGN_VERIFY",
                            quote(arn.text), quote(told.spec), quote(told.usage)));
  }
  NITRO_CHECK(eif::require_certificate_of(certificate, key.get(), arn.text));
  return std::unique_ptr<eif::Signer>(
      std::make_unique<KmsSigner>(std::move(client), signing_algorithm(*rules), std::move(certificate.certificates)));
}

std::string warning_about(const eif::Signer& signer, std::string_view certificate_path) {
  std::string labels;
  for (const auto& label : signer.keys_left_out()) labels += (labels.empty() ? "" : ", ") + quote(label);
  if (labels.empty()) return {};
  return fmt::format(
      "Warning: the file {} holds {} beside the certificate. The image gets the certificate only; keep the key in a "
      "file "
      "of its own.\n",
      quote(certificate_path), labels);
}

}  // namespace nitro::kms
