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

/// One entry of the signature section: a certificate, and a COSE_Sign1 message (RFC 8152) whose payload holds the
/// number of a PCR and its value.
struct Signature {
  std::string certificate_pem;        ///< the signer's certificate comes first; others after it are kept and ignored
  std::vector<std::byte> cose_sign1;  ///< untagged, or with tag 18
};

/// Size limit of a signature section.
inline constexpr std::size_t kMaxSignatureBytes = std::size_t{1} << 20;

/// Parses a signature section: CBOR, an array of at least one map. The first entry signs PCR0. Errors: kEifParsing.
Result<std::vector<Signature>> parse_signature_section(std::span<const std::byte> section);

/// The fields of a certificate that are shown to people.
struct CertificateInfo {
  std::map<std::string, std::string> issuer;  ///< long name of the attribute → value
  std::string algorithm;                      ///< "ecdsa-with-SHA384"
  std::string not_before;                     ///< "Nov 21 05:44:22 2026 GMT"
  std::string not_after;
  std::string signature;  ///< "30:65:…", upper case
};
/// Describes the first certificate in `pem`. Errors: kEifParsing.
Result<CertificateInfo> read_certificate_info(std::string_view pem);

enum class CertificateValidity { kValid, kNotYetValid, kExpired };

/// The result of checking one Signature. It does not say whose certificate it is: PCR8 does.
struct SignatureCheck {
  bool signature_valid = false;  ///< the COSE signature was made with the certificate's key
  CertificateValidity validity = CertificateValidity::kValid;
  std::int64_t signed_register = 0;  ///< the PCR that the payload names
  Pcr signed_value;                  ///< its value; compare it with PCR0 of the image
  /// Whether the signature is valid and signs PCR0 with this value. The certificate's dates are a separate matter.
  [[nodiscard]] bool covers(const Pcr& pcr0) const {
    return signature_valid && signed_register == 0 && signed_value == pcr0;
  }
};

/// Verifies one signature: ES256, ES384 or ES512, according to the certificate's curve. `now`: seconds since 1970. A
/// wrong signature is not an error. Errors: kEifParsing when the certificate, the message or its payload cannot be
/// parsed.
Result<SignatureCheck> check_signature(const Signature& signature, std::time_t now);
/// Checks whether an image with this signature may run. Errors: kSignatureChecker; the message says why not.
Result<void> require_usable(const SignatureCheck& check);

/// Holds a private key, or calls a service that does. sign_digest() is called once per image.
class Signer {
 public:
  virtual ~Signer() = default;
  /// PEM; only the certificates in it go into the image.
  [[nodiscard]] virtual const std::string& certificate_pem() const = 0;
  /// The labels of private keys found beside the certificate and left out of certificate_pem(), such as "EC PRIVATE
  /// KEY": whoever publishes such a file should know.
  [[nodiscard]] virtual std::vector<std::string> keys_left_out() const { return {}; }
  /// Returns an ECDSA signature (DER, ECDSA-Sig-Value) over `digest`: SHA-256 for P-256 keys, SHA-384 for P-384,
  /// SHA-512 for P-521, according to the certificate's key. Errors: kSigning.
  virtual Result<std::vector<std::byte>> sign_digest(std::span<const std::byte> digest) const = 0;
};

/// Creates a signer with a private key in a file: PEM, an unencrypted elliptic curve key on P-256, P-384 or P-521. Keys
/// held elsewhere, such as in a key service, have their own Signer. Errors: kSigning for a file that cannot be read,
/// another kind of key, and a certificate that does not match the key or is not valid at `now`.
Result<std::unique_ptr<Signer>> load_signer(const std::string& key_path, const std::string& certificate_path,
                                            std::time_t now = std::time(nullptr));

/// Returns the bytes of a signature section over PCR0. The signature is verified with the certificate first, so an
/// image never carries one that cannot be verified. Only the certificates of the signer's PEM text are included.
/// Errors: kSigning.
Result<std::vector<std::byte>> make_signature_section(const Signer& signer, const Pcr& pcr0);

/// Signs the image at `path`, replacing an existing signature; the file is replaced as a whole or left unchanged.
/// Returns the measurements, including PCR8. Errors: those of Reader, kSigning, kFileOperation; kEifParsing when the
/// image's CRC is wrong or it has no room for another section.
Result<Measurements> sign_image(const std::string& path, const Signer& signer);

}  // namespace nitro::eif
