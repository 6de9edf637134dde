// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nitro/eif/measure.h"
#include "nitro/result.h"

namespace nitro::eif {

/// One entry of the signature section: a certificate, and a COSE_Sign1 message (RFC 8152) whose payload names a PCR and
/// its value.
struct Signature {
  std::string certificate_pem;        ///< the signer's certificate comes first; what follows it is kept and ignored
  std::vector<std::byte> cose_sign1;  ///< untagged, or with tag 18
};

/// Most bytes of a signature section we read.
inline constexpr std::size_t kMaxSignatureBytes = std::size_t{1} << 20;

/// Reads a signature section: CBOR, an array of at least one map. The first entry is the signature of PCR0. Errors:
/// kEifParsing.
Result<std::vector<Signature>> parse_signature_section(std::span<const std::byte> section);

/// What people want to know of a certificate.
struct CertificateInfo {
  std::map<std::string, std::string> issuer;  ///< long name of the attribute → value
  std::string algorithm;                      ///< "ecdsa-with-SHA384"
  std::string not_before;                     ///< "Nov 21 05:44:22 2026 GMT"
  std::string not_after;
  std::string signature;  ///< "30:65:…", upper case
};
/// Of the first certificate in `pem`. Errors: kEifParsing.
Result<CertificateInfo> read_certificate_info(std::string_view pem);

enum class CertificateValidity { kValid, kNotYetValid, kExpired };

/// What a look at one Signature found. Nothing here says whose certificate it is: that is what PCR8 is for.
struct SignatureCheck {
  bool signature_valid = false;  ///< the certificate's key made the COSE signature
  CertificateValidity validity = CertificateValidity::kValid;
  std::int64_t signed_register = 0;  ///< the PCR that the payload names
  Pcr signed_value;                  ///< and its value; compare with PCR0 of the image
  /// The signature holds and covers PCR0 with this value. The certificate's dates are another question.
  [[nodiscard]] bool covers(const Pcr& pcr0) const {
    return signature_valid && signed_register == 0 && signed_value == pcr0;
  }
};

/// Verifies one signature: ES256, ES384 or ES512 as the certificate's curve demands. `now`: seconds since 1970.
/// Errors: kEifParsing when the certificate, the message or its payload cannot be read; a wrong signature is no error.
Result<SignatureCheck> check_signature(const Signature& signature, std::time_t now);
/// The rule for running an image. Errors: kSignatureChecker, the message says what is wrong.
Result<void> require_usable(const SignatureCheck& check);

/// Holds a private key, or asks a service that does. One call of sign_digest() per image.
class Signer {
 public:
  virtual ~Signer() = default;
  /// PEM; the certificates in it go into the image, and nothing else.
  [[nodiscard]] virtual const std::string& certificate_pem() const = 0;
  /// The labels of private keys that lay beside the certificate and are not in certificate_pem(), "EC PRIVATE KEY" for
  /// instance: the publisher of such a file should know.
  [[nodiscard]] virtual std::vector<std::string> keys_left_out() const { return {}; }
  /// An ECDSA signature (DER, ECDSA-Sig-Value) over `digest`: SHA-256 for P-256 keys, SHA-384 for P-384, SHA-512 for
  /// P-521, as the key of the certificate is. Errors: kSigning.
  virtual Result<std::vector<std::byte>> sign_digest(std::span<const std::byte> digest) const = 0;
};

/// A signer with a private key in a file: PEM, an elliptic curve key on P-256, P-384 or P-521, not encrypted. A key
/// that is elsewhere, as in a key service, takes another Signer. Errors: kSigning for a file that cannot be read,
/// another kind of key, a certificate that is not of this key or that is not valid at `now`.
Result<std::unique_ptr<Signer>> load_signer(const std::string& key_path, const std::string& certificate_path,
                                            std::time_t now = std::time(nullptr));

/// The bytes of a signature section over PCR0. The signature is verified with the certificate before it is returned, so
/// an image never carries one that cannot be verified. Of the signer's PEM text only certificates go into it. Errors:
/// kSigning.
Result<std::vector<std::byte>> make_signature_section(const Signer& signer, const Pcr& pcr0);

/// Signs the image at `path`, replacing a signature it may have; the file is replaced as a whole or left as it is.
/// Returns the measurements, PCR8 among them. Errors: those of Reader, kSigning, kFileOperation; kEifParsing when the
/// image's CRC is wrong or it has no section left to give.
Result<Measurements> sign_image(const std::string& path, const Signer& signer);

}  // namespace nitro::eif
