// SPDX-License-Identifier: Apache-2.0
#include "eif/format/certificate.h"

#include <fmt/format.h>
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/pem.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>
#include <utility>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/secret.h"

namespace nitro::eif {
namespace {

struct FreeBio {
  void operator()(BIO* bio) const { BIO_free(bio); }
};
using Bio = std::unique_ptr<BIO, FreeBio>;

// Certificates have a few KiB; a chain may follow.
constexpr std::size_t kMaxPemBytes = std::size_t{1} << 18;

constexpr std::string_view kBegin = "-----BEGIN ";
// All the labels that OpenSSL writes certificates with. Certificate::parse() skips trusted ones.
constexpr std::array<std::string_view, 3> kCertificateLabels = {PEM_STRING_X509, PEM_STRING_X509_OLD,
                                                                PEM_STRING_X509_TRUSTED};

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

std::string object_name(const ASN1_OBJECT* object) {
  std::array<char, 128> text{};
  const int size = OBJ_obj2txt(text.data(), static_cast<int>(text.size()), object, 0);
  return size > 0 ? std::string(text.data()) : std::string();
}

std::string time_text(const ASN1_TIME* time) {
  const Bio bio(BIO_new(BIO_s_mem()));
  if (!bio || time == nullptr || ASN1_TIME_print(bio.get(), time) != 1) return {};
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

// Issuer values are shown as in the reference: control characters and backslashes escaped, double quotes removed.
std::string value_text(const ASN1_STRING* value) {
  unsigned char* utf8 = nullptr;
  const int size = ASN1_STRING_to_UTF8(&utf8, value);
  if (size < 0) return "error";
  std::string text;
  for (int i = 0; i < size; ++i) {
    const unsigned char c = utf8[i];
    if (c == '"') continue;
    if (c == '\\') {
      text += "\\\\";
    } else if (c == '\n') {
      text += "\\n";
    } else if (c == '\r') {
      text += "\\r";
    } else if (c == '\t') {
      text += "\\t";
    } else if (c == 0) {
      text += "\\0";
    } else if (c < 0x20 || c == 0x7f) {
      text += fmt::format("\\u{{{:x}}}", c);
    } else {
      text += static_cast<char>(c);
    }
  }
  OPENSSL_free(utf8);
  return text;
}

std::string hex_with_colons(const ASN1_BIT_STRING* bits) {
  std::string text;
  const unsigned char* data = ASN1_STRING_get0_data(bits);
  for (int i = 0; i < ASN1_STRING_length(bits); ++i) text += fmt::format("{}{:02X}", i == 0 ? "" : ":", data[i]);
  return text;
}

}  // namespace

Result<Secret> read_pem(const std::string& path) {
  auto text = read_text_file(path, kMaxPemBytes);
  if (!text) return Failure(std::move(text).error().as(ErrorCode::kSigning));
  return Secret(*std::move(text));
}

Result<SigningCertificate> read_signing_certificate(const std::string& path, std::time_t now) {
  NITRO_TRY(const Secret pem, read_pem(path));
  auto certificate = Certificate::parse(pem.text(), ErrorCode::kSigning);
  if (!certificate) return fail_within(quote(path), std::move(certificate).error());
  Key public_key = certificate->public_key();
  if (!curve_rules(public_key.get())) {
    return fail(
        ErrorCode::kSigning,
        fmt::format("the certificate {} is of another kind of key than an elliptic curve key on P-256, P-384 or "
                    "P-521; make one for such a key",
                    quote(path)));
  }
  switch (certificate->validity(now)) {
    case CertificateValidity::kValid:
      break;
    case CertificateValidity::kNotYetValid:
      return fail(
          ErrorCode::kSigning,
          fmt::format("the certificate {} is valid only from {} on; check the clock, or use another certificate",
                      quote(path), certificate->info().not_before));
    case CertificateValidity::kExpired:
      return fail(ErrorCode::kSigning, fmt::format("the certificate {} has expired on {}; make a new one for the key",
                                                   quote(path), certificate->info().not_after));
  }
  return SigningCertificate{path, certificates_in(pem.text()), std::move(public_key)};
}

PemCertificates certificates_in(const std::string& text) {
  PemCertificates found;
  for (auto at = text.find(kBegin); at != std::string::npos; at = text.find(kBegin, at)) {
    at += kBegin.size();
    const auto label = text.substr(at, text.find_first_of("-\r\n", at) - at);
    if (label.find("PRIVATE KEY") != std::string::npos) found.key_labels.push_back(label);
  }
  const Bio bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  bool clean = true;
  std::size_t end = 0;
  while (bio) {
    char* name = nullptr;
    char* header = nullptr;
    unsigned char* data = nullptr;
    long size = 0;
    if (PEM_read_bio(bio.get(), &name, &header, &data, &size) != 1) break;
    const bool certificate = std::ranges::find(kCertificateLabels, std::string_view(name)) != kCertificateLabels.end();
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_clear_free(data, static_cast<std::size_t>(size));
    // OpenSSL reads line by line, so the rest of its buffer begins after the block.
    const auto previous_end = std::exchange(end, text.size() - BIO_ctrl_pending(bio.get()));
    if (!certificate) {
      clean = false;
      continue;
    }
    const auto begin = text.rfind(kBegin, end - 1);
    clean = clean && is_blank(std::string_view(text).substr(previous_end, begin - previous_end));
    found.pem.append(text, begin, end - begin);
  }
  ERR_clear_error();
  if (clean && is_blank(std::string_view(text).substr(end))) found.pem = text;
  return found;
}

Result<void> require_certificate_of(const SigningCertificate& certificate, const EVP_PKEY* key,
                                    std::string_view key_name) {
  const bool same = EVP_PKEY_eq(key, certificate.public_key.get()) == 1;
  ERR_clear_error();
  if (same) return {};
  return fail(ErrorCode::kSigning,
              fmt::format("the certificate {} does not belong to the private key {}; give the two that belong together",
                          quote(certificate.path), quote(key_name)));
}

std::string openssl_reason() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return reason == nullptr ? "unknown reason" : reason;
}

std::optional<CurveRules> curve_rules(const EVP_PKEY* key) {
  std::array<char, 64> name{};
  if (key == nullptr || EVP_PKEY_is_a(key, "EC") != 1 ||
      EVP_PKEY_get_group_name(key, name.data(), name.size(), nullptr) != 1) {
    return std::nullopt;
  }
  switch (OBJ_sn2nid(name.data())) {
    case NID_X9_62_prime256v1:
      return CurveRules{.cose_algorithm = -7, .hash = HashAlgorithm::kSha256, .integer_bytes = 32};
    case NID_secp384r1:
      return CurveRules{.cose_algorithm = -35, .hash = HashAlgorithm::kSha384, .integer_bytes = 48};
    case NID_secp521r1:
      return CurveRules{.cose_algorithm = -36, .hash = HashAlgorithm::kSha512, .integer_bytes = 66};
    default:
      return std::nullopt;
  }
}

Result<Certificate> Certificate::parse(std::string_view pem, ErrorCode code) {
  if (pem.size() <= static_cast<std::size_t>(std::numeric_limits<int>::max())) {
    const Bio bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
    // There must be no password prompt, whatever the text contains.
    const auto no_password = [](char*, int, int, void*) { return 0; };
    std::unique_ptr<X509, Free> certificate(bio ? PEM_read_bio_X509(bio.get(), nullptr, no_password, nullptr)
                                                : nullptr);
    if (certificate) return Certificate(std::move(certificate));
  }
  return fail(code,
              fmt::format("the signing certificate cannot be read ({}); it must be an X.509 certificate in PEM form",
                          openssl_reason()));
}

Result<std::vector<std::byte>> Certificate::der() const {
  unsigned char* data = nullptr;
  const int size = i2d_X509(certificate_.get(), &data);
  if (size < 0) return fail(ErrorCode::kEifParsing, "encoding the signing certificate: " + openssl_reason());
  const auto bytes = std::as_bytes(std::span(data, static_cast<std::size_t>(size)));
  std::vector<std::byte> der(bytes.begin(), bytes.end());
  OPENSSL_free(data);
  return der;
}

CertificateInfo Certificate::info() const {
  CertificateInfo info;
  const X509_NAME* issuer = X509_get_issuer_name(certificate_.get());
  for (int i = 0; i < X509_NAME_entry_count(issuer); ++i) {
    const X509_NAME_ENTRY* entry = X509_NAME_get_entry(issuer, i);
    // If two attributes have the same name, the last one is shown.
    info.issuer.insert_or_assign(object_name(X509_NAME_ENTRY_get_object(entry)),
                                 value_text(X509_NAME_ENTRY_get_data(entry)));
  }
  const ASN1_BIT_STRING* signature = nullptr;
  const X509_ALGOR* algorithm = nullptr;
  X509_get0_signature(&signature, &algorithm, certificate_.get());
  const ASN1_OBJECT* algorithm_name = nullptr;
  X509_ALGOR_get0(&algorithm_name, nullptr, nullptr, algorithm);
  info.algorithm = object_name(algorithm_name);
  info.not_before = time_text(X509_get0_notBefore(certificate_.get()));
  info.not_after = time_text(X509_get0_notAfter(certificate_.get()));
  info.signature = hex_with_colons(signature);
  ERR_clear_error();
  return info;
}

CertificateValidity Certificate::validity(std::time_t now) const {
  // X509_cmp_time: -1 if the certificate's time is `now` or earlier, 1 if later, 0 if it cannot be parsed.
  if (X509_cmp_time(X509_get0_notBefore(certificate_.get()), &now) > 0) return CertificateValidity::kNotYetValid;
  if (X509_cmp_time(X509_get0_notAfter(certificate_.get()), &now) <= 0) return CertificateValidity::kExpired;
  return CertificateValidity::kValid;
}

Result<CertificateInfo> read_certificate_info(std::string_view pem) {
  NITRO_TRY(const Certificate certificate, Certificate::parse(pem, ErrorCode::kEifParsing));
  return certificate.info();
}

}  // namespace nitro::eif
