// SPDX-License-Identifier: Apache-2.0
#include "nitro/eif/sign.h"

#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <utility>

#include "eif/format/certificate.h"
#include "eif/format/cose.h"
#include "eif/format/digest.h"
#include "eif/format/section_writer.h"
#include "eif/format/signature.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/output_file.h"
#include "src/base/secret.h"

namespace nitro::eif {
namespace {

Failure refuse(std::string message) {
  return fail(ErrorCode::kSigning, std::move(message));
}

class PemSigner : public Signer {
 public:
  PemSigner(Key key, PemCertificates certificates) : key_(std::move(key)), certificates_(std::move(certificates)) {}

  [[nodiscard]] const std::string& certificate_pem() const override { return certificates_.pem; }
  [[nodiscard]] std::vector<std::string> keys_left_out() const override { return certificates_.key_labels; }

  Result<std::vector<std::byte>> sign_digest(std::span<const std::byte> digest) const override {
    const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> context(
        EVP_PKEY_CTX_new_from_pkey(nullptr, key_.get(), nullptr), EVP_PKEY_CTX_free);
    // OpenSSL's byte type is unsigned char, which may alias any object (C++20 [basic.lval]/11).
    const auto* input = reinterpret_cast<const unsigned char*>(digest.data());
    std::size_t size = 0;
    if (!context || EVP_PKEY_sign_init(context.get()) != 1 ||
        EVP_PKEY_sign(context.get(), nullptr, &size, input, digest.size()) != 1) {
      return refuse("signing: " + openssl_reason());
    }
    std::vector<std::byte> signature(size);
    auto* output = reinterpret_cast<unsigned char*>(signature.data());
    if (EVP_PKEY_sign(context.get(), output, &size, input, digest.size()) != 1) {
      return refuse("signing: " + openssl_reason());
    }
    signature.resize(size);
    return signature;
  }

 private:
  Key key_;
  PemCertificates certificates_;
};

Result<Key> read_private_key(const std::string& path) {
  NITRO_TRY(const Secret pem, read_pem(path));
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(
      BIO_new_mem_buf(pem.text().data(), static_cast<int>(pem.text().size())), BIO_free);
  // A password prompt on the terminal would block every script, so an encrypted key is an error.
  bool encrypted = false;
  const auto no_password = [](char*, int, int, void* asked) {
    *static_cast<bool*>(asked) = true;
    return -1;
  };
  Key key(bio ? PEM_read_bio_PrivateKey(bio.get(), nullptr, no_password, &encrypted) : nullptr);
  if (!key && encrypted) {
    ERR_clear_error();
    return refuse(fmt::format(
        "the private key {} is encrypted; give a key without a password, for instance as `openssl pkey` writes it",
        quote(path)));
  }
  if (!key) {
    return refuse(fmt::format("the private key {} cannot be read ({}); it must be an elliptic curve key in PEM form",
                              quote(path), openssl_reason()));
  }
  ERR_clear_error();
  return key;
}

}  // namespace

Result<std::unique_ptr<Signer>> load_signer(const std::string& key_path, const std::string& certificate_path,
                                            std::time_t now) {
  NITRO_TRY(Key key, read_private_key(key_path));
  if (!curve_rules(key.get())) {
    return refuse(
        fmt::format("the private key {} is of another kind than an elliptic curve key on P-256, P-384 or P-521; "
                    "make one, for instance with `openssl ecparam -name secp384r1 -genkey -noout`",
                    quote(key_path)));
  }
  NITRO_TRY(auto certificate, read_signing_certificate(certificate_path, now));
  NITRO_CHECK(require_certificate_of(certificate, key.get(), key_path));
  return std::unique_ptr<Signer>(std::make_unique<PemSigner>(std::move(key), std::move(certificate.certificates)));
}

Result<std::vector<std::byte>> make_signature_section(const Signer& signer, const Pcr& pcr0) {
  NITRO_TRY(const Certificate certificate, Certificate::parse(signer.certificate_pem(), ErrorCode::kSigning));
  const Key public_key = certificate.public_key();
  const auto rules = curve_rules(public_key.get());
  if (!rules)
    return refuse("the signing certificate is not of an elliptic curve key on P-256, P-384 or P-521; use one that is");

  const auto header = cose_protected_header(rules->cose_algorithm);
  const auto payload = encode_signed_register({.index = 0, .value = pcr0});
  const auto message = cose_bytes_to_sign(header, payload);
  NITRO_TRY(Digest digest, Digest::create(rules->hash));
  digest.update(message);
  NITRO_TRY(const auto hashed, digest.finish());
  NITRO_TRY(const auto der, signer.sign_digest(hashed));
  const auto raw = raw_from_der(der, rules->integer_bytes);
  if (!raw || !ecdsa_verifies(public_key.get(), *rules, message, der)) {
    return refuse("the signature does not fit the signing certificate; give the certificate of the key that signs");
  }
  const Signature entry{.certificate_pem = certificates_in(signer.certificate_pem()).pem,
                        .cose_sign1 = encode_cose_sign1(header, payload, *raw)};
  auto section = encode_signature_section(std::span(&entry, 1));
  if (section.size() > kMaxSignatureBytes)
    return refuse("the signing certificate's file is too large; leave only the certificate in it");
  return section;
}

Result<Measurements> sign_image(const std::string& path, const Signer& signer) {
  NITRO_TRY(const Reader reader, Reader::open(path));
  const bool replaces = reader.find(SectionType::kSignature) != nullptr;
  if (!replaces && reader.sections().size() == format::kMaxSections) {
    return fail(ErrorCode::kEifParsing,
                fmt::format("{}: all {} sections are in use, none is left for a signature; build the image "
                            "with fewer ramdisks",
                            quote(path), format::kMaxSections));
  }
  NITRO_TRY(OutputFile output, OutputFile::create(path));
  NITRO_TRY(SectionWriter writer, SectionWriter::create(output.fd(), HashAlgorithm::kSha384));

  // A single pass copies, measures and checks: `crc` becomes the CRC of the old image.
  std::uint32_t crc = reader.header_crc32_;
  for (const Section& section : reader.sections()) {
    if (section.type == SectionType::kSignature) {
      crc = crc32_of(encode_section_header({.type = static_cast<std::uint16_t>(section.type),
                                            .flags = section.flags,
                                            .size_bytes = section.size_bytes}),
                     crc);
      NITRO_CHECK(reader.read(section, [&](std::span<const std::byte> piece) -> Result<void> {
        crc = crc32_of(piece, crc);
        return {};
      }));
      continue;
    }
    auto copied =
        writer.add_copy(section.type, reader.fd_.get(), section.offset_bytes, section.size_bytes, section.flags);
    if (!copied) return fail_within("copying " + quote(path), std::move(copied).error());
    crc = crc32_joined(crc, writer.section_crc32(writer.count() - 1), section.size_bytes + format::kSectionHeaderBytes);
  }
  if (crc != reader.header().crc32) {
    return fail(
        ErrorCode::kEifParsing,
        fmt::format("{}: the CRC is wrong, so the image has been damaged; copy or build it again", quote(path)));
  }

  NITRO_TRY(Measurements measurements, writer.measure());
  NITRO_TRY(measurements.pcr8, measure_certificate(signer.certificate_pem()));
  NITRO_TRY(const auto signature, make_signature_section(signer, measurements.pcr0));
  NITRO_CHECK(writer.add_unmeasured(SectionType::kSignature, signature));
  RawHeader header;
  header.version = std::max(reader.header().version, format::kSignatureVersion);
  header.flags = reader.header().flags;
  header.default_memory_bytes = reader.header().default_memory_bytes;
  header.default_cpus = reader.header().default_cpus;
  NITRO_CHECK(writer.write_header(header));
  NITRO_CHECK(output.commit());
  return measurements;
}

}  // namespace nitro::eif
