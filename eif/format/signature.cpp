// SPDX-License-Identifier: Apache-2.0
#include "eif/format/signature.h"

#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>

#include <memory>

#include "eif/format/cose.h"
#include "eif/format/digest.h"
#include "src/base/bytes.h"
#include "src/base/cbor.h"

namespace nitro::eif {
namespace {

constexpr std::string_view kCertificateKey = "signing_certificate";
constexpr std::string_view kSignatureKey = "signature";

struct FreeEcdsa {
  void operator()(ECDSA_SIG* signature) const { ECDSA_SIG_free(signature); }
};
using Ecdsa = std::unique_ptr<ECDSA_SIG, FreeEcdsa>;

// OpenSSL's byte type is unsigned char, which may alias any object (C++20 [basic.lval]/11).
const unsigned char* openssl_bytes(std::span<const std::byte> bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

Failure malformed(const std::string& what) {
  return fail(ErrorCode::kEifParsing, "reading the signature section: " + what + "; sign the image again");
}

}  // namespace

Result<std::vector<Signature>> parse_signature_section(std::span<const std::byte> section) {
  CborInput input(section);
  const auto count = input.array();
  if (!count) return malformed("it is no CBOR array");
  if (*count == 0) return malformed("it has no entry");
  std::vector<Signature> signatures;
  for (std::uint64_t i = 0; i < *count; ++i) {
    std::optional<std::vector<std::byte>> certificate;
    std::optional<std::vector<std::byte>> cose;
    const auto pairs = input.map();
    for (std::uint64_t j = 0; pairs && j < *pairs && !input.failed(); ++j) {
      const auto key = input.text();
      if (key == kCertificateKey) {
        certificate = input.byte_array();
      } else if (key == kSignatureKey) {
        cose = input.byte_array();
      } else if (key) {
        input.skip();
      }
    }
    if (!certificate || !cose || input.failed()) {
      return malformed("entry " + std::to_string(i) + " has no certificate or no signature");
    }
    signatures.push_back({.certificate_pem = std::string(as_text(*certificate)), .cose_sign1 = std::move(*cose)});
  }
  if (!input.at_end()) return malformed("bytes follow the last entry");
  return signatures;
}

std::vector<std::byte> encode_signature_section(std::span<const Signature> signatures) {
  CborOutput output;
  output.array(signatures.size());
  for (const Signature& signature : signatures) {
    output.map(2)
        .text(kCertificateKey)
        .byte_array(as_bytes(signature.certificate_pem))
        .text(kSignatureKey)
        .byte_array(signature.cose_sign1);
  }
  return output.take();
}

std::optional<std::vector<std::byte>> der_from_raw(std::span<const std::byte> raw, std::size_t integer_bytes) {
  if (raw.size() != 2 * integer_bytes) return std::nullopt;
  const Ecdsa signature(ECDSA_SIG_new());
  BIGNUM* r = BN_bin2bn(openssl_bytes(raw.first(integer_bytes)), static_cast<int>(integer_bytes), nullptr);
  BIGNUM* s = BN_bin2bn(openssl_bytes(raw.last(integer_bytes)), static_cast<int>(integer_bytes), nullptr);
  if (!signature || r == nullptr || s == nullptr || ECDSA_SIG_set0(signature.get(), r, s) != 1) {
    BN_free(r);
    BN_free(s);
    return std::nullopt;
  }
  unsigned char* data = nullptr;
  const int size = i2d_ECDSA_SIG(signature.get(), &data);
  if (size < 0) return std::nullopt;
  const auto bytes = std::as_bytes(std::span(data, static_cast<std::size_t>(size)));
  std::vector<std::byte> der(bytes.begin(), bytes.end());
  OPENSSL_free(data);
  return der;
}

std::optional<std::vector<std::byte>> raw_from_der(std::span<const std::byte> der, std::size_t integer_bytes) {
  const unsigned char* position = openssl_bytes(der);
  const Ecdsa signature(d2i_ECDSA_SIG(nullptr, &position, static_cast<long>(der.size())));
  if (!signature || position != openssl_bytes(der) + der.size()) {
    ERR_clear_error();
    return std::nullopt;
  }
  std::vector<std::byte> raw(2 * integer_bytes);
  auto* out = reinterpret_cast<unsigned char*>(raw.data());
  const int size = static_cast<int>(integer_bytes);
  if (BN_bn2binpad(ECDSA_SIG_get0_r(signature.get()), out, size) != size ||
      BN_bn2binpad(ECDSA_SIG_get0_s(signature.get()), out + integer_bytes, size) != size) {
    ERR_clear_error();
    return std::nullopt;
  }
  return raw;
}

bool ecdsa_verifies(EVP_PKEY* key, const CurveRules& rules, std::span<const std::byte> message,
                    std::span<const std::byte> der_signature) {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
  const bool verified =
      context &&
      EVP_DigestVerifyInit_ex(context.get(), nullptr, openssl_name(rules.hash), nullptr, nullptr, key, nullptr) == 1 &&
      EVP_DigestVerify(context.get(), openssl_bytes(der_signature), der_signature.size(), openssl_bytes(message),
                       message.size()) == 1;
  ERR_clear_error();
  return verified;
}

Result<SignatureCheck> check_signature(const Signature& signature, std::time_t now) {
  NITRO_TRY(const Certificate certificate, Certificate::parse(signature.certificate_pem, ErrorCode::kEifParsing));
  NITRO_TRY(const CoseSign1 cose, parse_cose_sign1(signature.cose_sign1));
  NITRO_TRY(SignedRegister payload, parse_signed_register(cose.payload));

  SignatureCheck check;
  check.validity = certificate.validity(now);
  check.signed_register = payload.index;
  check.signed_value = std::move(payload.value);
  const Key key = certificate.public_key();
  ERR_clear_error();
  const auto rules = curve_rules(key.get());
  // The algorithm named by the message must be the one of the key's curve, so that a message cannot choose a weaker
  // hash.
  if (rules && cose.algorithm == rules->cose_algorithm) {
    const auto der = der_from_raw(cose.signature, rules->integer_bytes);
    check.signature_valid =
        der && ecdsa_verifies(key.get(), *rules, cose_bytes_to_sign(cose.protected_header, cose.payload), *der);
  }
  return check;
}

Result<void> require_usable(const SignatureCheck& check) {
  const auto refuse = [](const char* why) { return fail(ErrorCode::kSignatureChecker, why); };
  if (!check.signature_valid) {
    return refuse("the image's signature was not made with the key of its certificate; sign the image again");
  }
  if (check.validity == CertificateValidity::kExpired) {
    return refuse("the image's signing certificate has expired; sign the image with a new certificate");
  }
  if (check.validity == CertificateValidity::kNotYetValid) {
    return refuse(
        "the image's signing certificate is not valid yet; check the clock, or sign with another certificate");
  }
  return {};
}

}  // namespace nitro::eif
