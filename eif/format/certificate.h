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

/// How keys of a curve sign: the COSE algorithm (RFC 8152, table 5; ES256, ES384 or ES512), the hash, and the size in
/// bytes of r and of s.
struct CurveRules {
  std::int64_t cose_algorithm;
  HashAlgorithm hash;
  std::size_t integer_bytes;
};
/// Returns the rules for the key's curve, P-256, P-384 or P-521, or nullopt for other curves and other types of keys.
[[nodiscard]] std::optional<CurveRules> curve_rules(const EVP_PKEY* key);

/// An X.509 certificate.
class Certificate {
 public:
  /// Parses the first certificate in the PEM text; text around it is ignored. Errors: `code`.
  static Result<Certificate> parse(std::string_view pem, ErrorCode code);

  /// Errors: kEifParsing.
  [[nodiscard]] Result<std::vector<std::byte>> der() const;
  [[nodiscard]] CertificateInfo info() const;
  [[nodiscard]] CertificateValidity validity(std::time_t now) const;
  /// Returns nullptr if OpenSSL does not know the type of key.
  [[nodiscard]] Key public_key() const { return Key(X509_get_pubkey(certificate_.get())); }

 private:
  struct Free {
    void operator()(X509* certificate) const { X509_free(certificate); }
  };
  explicit Certificate(std::unique_ptr<X509, Free> certificate) : certificate_(std::move(certificate)) {}

  std::unique_ptr<X509, Free> certificate_;
};

/// The parts of a PEM text that may be published.
struct PemCertificates {
  /// The certificate blocks, as they are in the text; the whole text if there is nothing else but white space.
  std::string pem;
  /// The labels of private keys in the text, such as "EC PRIVATE KEY".
  std::vector<std::string> key_labels;
};
/// Extracts the certificates: files often hold the private key too, and images are distributed. Blocks after one that
/// cannot be parsed are left out.
[[nodiscard]] PemCertificates certificates_in(const std::string& text);

/// Returns the text of a PEM file, which may hold a private key. Errors: kSigning, also for more than 256 KiB.
Result<Secret> read_pem(const std::string& path);

/// A certificate for signing an image: for a key on P-256, P-384 or P-521, and currently valid.
struct SigningCertificate {
  std::string path;  ///< for messages
  PemCertificates certificates;
  Key public_key;
};
/// Errors: kSigning for any problem with the file or the certificate in it.
Result<SigningCertificate> read_signing_certificate(const std::string& path, std::time_t now);
/// Checks that the certificate matches the key: otherwise the signature could never be verified. `key_name` is for the
/// message. Errors: kSigning if they do not match.
Result<void> require_certificate_of(const SigningCertificate& certificate, const EVP_PKEY* key,
                                    std::string_view key_name);

/// Returns the oldest error of OpenSSL on this thread, for messages, and clears its error queue.
[[nodiscard]] std::string openssl_reason();

}  // namespace nitro::eif
