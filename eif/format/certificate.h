// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <cstddef>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nitro/eif/sign.h"
#include "src/base/secret.h"

namespace nitro::eif {

struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;

/// How a curve signs: the COSE algorithm (RFC 8152, table 5; AWS and Rust call them ES256, ES384, ES512), the hash and
/// the bytes of each of r and s.
struct CurveRules {
  std::int64_t cose_algorithm;
  HashAlgorithm hash;
  std::size_t integer_bytes;
};
/// Of the key's curve: P-256, P-384 or P-521; nothing for another curve and for keys that are none of elliptic curves.
[[nodiscard]] std::optional<CurveRules> curve_rules(const EVP_PKEY* key);

/// An X.509 certificate.
class Certificate {
 public:
  /// The first certificate in the PEM text; text around it is ignored. Errors: `code`.
  static Result<Certificate> parse(std::string_view pem, ErrorCode code);

  /// Errors: kEifParsing.
  [[nodiscard]] Result<std::vector<std::byte>> der() const;
  [[nodiscard]] CertificateInfo info() const;
  [[nodiscard]] CertificateValidity validity(std::time_t now) const;
  /// nullptr when OpenSSL does not know the kind of key.
  [[nodiscard]] Key public_key() const { return Key(X509_get_pubkey(certificate_.get())); }

 private:
  struct Free {
    void operator()(X509* certificate) const { X509_free(certificate); }
  };
  explicit Certificate(std::unique_ptr<X509, Free> certificate) : certificate_(std::move(certificate)) {}

  std::unique_ptr<X509, Free> certificate_;
};

/// What of a PEM text may be published.
struct PemCertificates {
  /// The blocks that are certificates, each as it stands in the text; all of the text when nothing is beside them but
  /// white space.
  std::string pem;
  /// The labels of private keys in the text, "EC PRIVATE KEY" for instance.
  std::vector<std::string> key_labels;
};
/// Files often hold a key beside its certificate, and an image is handed to everybody. Blocks behind one that cannot be
/// read are left out.
[[nodiscard]] PemCertificates certificates_in(const std::string& text);

/// The text of a PEM file, which may hold a private key. Errors: kSigning; more than 256 KiB is an error, too.
Result<Secret> read_pem(const std::string& path);

/// A certificate that is to sign an image: of a key on P-256, P-384 or P-521, and valid now.
struct SigningCertificate {
  std::string path;  ///< for messages
  PemCertificates certificates;
  Key public_key;
};
/// Errors: kSigning, whatever is wrong with the file or the certificate in it.
Result<SigningCertificate> read_signing_certificate(const std::string& path, std::time_t now);
/// An image signed with one key and another's certificate could never be verified. `key_name` is for the message.
/// Errors: kSigning when they do not belong together.
Result<void> require_certificate_of(const SigningCertificate& certificate, const EVP_PKEY* key,
                                    std::string_view key_name);

/// The oldest reason that OpenSSL has noted on this thread, for messages; all are forgotten.
[[nodiscard]] std::string openssl_reason();

}  // namespace nitro::eif
