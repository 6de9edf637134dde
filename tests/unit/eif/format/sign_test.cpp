// SPDX-License-Identifier: Apache-2.0
#include "nitro/eif/sign.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>

#include "eif/format/certificate.h"
#include "eif/format/cose.h"
#include "eif/format/digest.h"
#include "eif/format/section_writer.h"
#include "eif/format/signature.h"
#include "nitro/eif/reader.h"
#include "nitro/eif/writer.h"
#include "src/base/bytes.h"
#include "src/base/cbor.h"
#include "tests/unit/eif/format/golden.h"

namespace nitro::eif {
namespace {

using testing::golden;
using testing::kGoldenNow;
using testing::read_file;
using testing::TempFolder;
using testing::write_file;

std::unique_ptr<Signer> golden_signer(const std::string& curve) {
  auto signer = load_signer(golden("keys/" + curve + ".key.pem"), golden("keys/" + curve + ".cert.pem"), kGoldenNow);
  EXPECT_OK(signer);
  return std::move(*signer);
}

// Who signs with a key that is not the certificate's: a key service that was given the wrong certificate.
class MismatchedSigner : public Signer {
 public:
  [[nodiscard]] const std::string& certificate_pem() const override { return certificate_; }
  Result<std::vector<std::byte>> sign_digest(std::span<const std::byte> digest) const override {
    return other_->sign_digest(digest);
  }

 private:
  std::string certificate_ = read_file(golden("keys/ec384.cert.pem"));
  std::unique_ptr<Signer> other_ = golden_signer("ec256");
};

// Who signs for a certificate with so many more in its file.
class LongSigner : public Signer {
 public:
  explicit LongSigner(std::size_t bytes) {
    while (certificate_.size() + one_.size() <= bytes) certificate_ += one_;
  }
  [[nodiscard]] const std::string& certificate_pem() const override { return certificate_; }
  Result<std::vector<std::byte>> sign_digest(std::span<const std::byte> digest) const override {
    return signer_->sign_digest(digest);
  }

 private:
  std::unique_ptr<Signer> signer_ = golden_signer("ec384");
  std::string one_ = signer_->certificate_pem();
  std::string certificate_;
};

const Pcr kPcr0(48, std::byte{7});

Result<SignatureCheck> check_section(std::span<const std::byte> section) {
  NITRO_TRY(const auto signatures, parse_signature_section(section));
  return check_signature(signatures.front(), kGoldenNow);
}

TEST(Signature, OfEachCurveVerifies) {
  for (const char* curve : {"ec256", "ec384", "ec521"}) {
    const auto signer = golden_signer(curve);
    const auto section = make_signature_section(*signer, kPcr0);
    ASSERT_OK(section);
    const auto check = check_section(*section);
    ASSERT_OK(check);
    EXPECT_TRUE(check->signature_valid) << curve;
    EXPECT_TRUE(check->covers(kPcr0)) << curve;
    EXPECT_FALSE(check->covers(Pcr(48))) << curve;
    EXPECT_OK(require_usable(*check));
  }
}

TEST(Signature, ByteForByteIsWhatTheReferenceEncodesButForTheSignature) {
  for (const char* curve : {"ec256", "ec384", "ec521"}) {
    const auto reader = Reader::open(golden(std::string("eif/signed-") + curve + "/image.eif"));
    ASSERT_OK(reader);
    const auto signatures = reader->signatures();
    ASSERT_OK(signatures);
    const auto theirs = parse_cose_sign1(signatures->front().cose_sign1);
    ASSERT_OK(theirs);
    EXPECT_EQ(encode_cose_sign1(theirs->protected_header, theirs->payload, theirs->signature),
              signatures->front().cose_sign1);
    const auto payload = parse_signed_register(theirs->payload);
    ASSERT_OK(payload);
    EXPECT_TRUE(std::ranges::equal(encode_signed_register(*payload), theirs->payload));
    EXPECT_TRUE(std::ranges::equal(cose_protected_header(*theirs->algorithm), theirs->protected_header));
    std::string raw;
    ASSERT_OK(
        reader->read(*reader->find(SectionType::kSignature), [&](std::span<const std::byte> bytes) -> Result<void> {
          raw += as_text(bytes);
          return {};
        }));
    EXPECT_TRUE(as_text(encode_signature_section(*signatures)) == raw);
  }
}

TEST(Signature, IsNotValidWhenAnyBitOfItOrOfItsPayloadChanges) {
  const auto section = make_signature_section(*golden_signer("ec384"), kPcr0);
  ASSERT_OK(section);
  const auto signatures = parse_signature_section(*section);
  ASSERT_OK(signatures);
  Signature changed = signatures->front();
  for (std::size_t i = 0; i < changed.cose_sign1.size(); ++i) {
    for (const auto bit : {std::byte{1}, std::byte{0x10}, std::byte{0x80}}) {
      changed.cose_sign1[i] ^= bit;
      const auto check = check_signature(changed, kGoldenNow);
      EXPECT_FALSE(check && check->covers(kPcr0)) << i;
      EXPECT_TRUE(check || check.error().code() == ErrorCode::kEifParsing) << i;
      changed.cose_sign1[i] ^= bit;
    }
  }
}

// A message may name any algorithm, and is signed with the hash of the key's curve all the same.
Signature signed_as(const std::string& curve, std::int64_t algorithm) {
  const auto signer = golden_signer(curve);
  const auto certificate = Certificate::parse(signer->certificate_pem(), ErrorCode::kSigning).value();
  const auto rules = curve_rules(certificate.public_key().get()).value();
  const auto header = cose_protected_header(algorithm);
  const auto payload = encode_signed_register({.index = 0, .value = kPcr0});
  auto digest = Digest::create(rules.hash).value();
  digest.update(cose_bytes_to_sign(header, payload));
  const auto der = signer->sign_digest(digest.finish().value()).value();
  return {.certificate_pem = signer->certificate_pem(),
          .cose_sign1 = encode_cose_sign1(header, payload, raw_from_der(der, rules.integer_bytes).value())};
}

TEST(Signature, IsNotValidUnderTheNameOfAnotherAlgorithm) {
  constexpr std::int64_t kAlgorithms[] = {-7, -35, -36};  // ES256, ES384, ES512
  const char* const curves[] = {"ec256", "ec384", "ec521"};
  for (std::size_t curve = 0; curve < std::size(curves); ++curve) {
    for (std::size_t named = 0; named < std::size(kAlgorithms); ++named) {
      const auto check = check_signature(signed_as(curves[curve], kAlgorithms[named]), kGoldenNow);
      ASSERT_OK(check);
      EXPECT_EQ(check->signature_valid, curve == named) << curves[curve] << " as " << kAlgorithms[named];
    }
    const auto check = check_signature(signed_as(curves[curve], 0), kGoldenNow);
    ASSERT_OK(check);
    EXPECT_FALSE(check->signature_valid);
  }
}

TEST(Signature, MayCarryTheCoseTag) {
  const auto section = make_signature_section(*golden_signer("ec256"), kPcr0);
  ASSERT_OK(section);
  Signature tagged = parse_signature_section(*section)->front();
  tagged.cose_sign1.insert(tagged.cose_sign1.begin(), std::byte{0xd2});
  const auto check = check_signature(tagged, kGoldenNow);
  ASSERT_OK(check);
  EXPECT_TRUE(check->covers(kPcr0));
}

TEST(Signature, IsNotValidUnderAnotherCertificate) {
  const auto section = make_signature_section(*golden_signer("ec384"), kPcr0);
  ASSERT_OK(section);
  for (const char* other : {"ec256", "ec521", "rsa"}) {
    Signature changed = parse_signature_section(*section)->front();
    changed.certificate_pem = read_file(golden(std::string("keys/") + other + ".cert.pem"));
    const auto check = check_signature(changed, kGoldenNow);
    ASSERT_OK(check);
    EXPECT_FALSE(check->signature_valid) << other;
    const auto usable = require_usable(*check);
    ASSERT_FALSE(usable);
    EXPECT_EQ(usable.error().code(), ErrorCode::kSignatureChecker);
  }
}

TEST(Signature, IsNotUsableOutsideTheCertificatesDates) {
  const auto section = make_signature_section(*golden_signer("ec384"), kPcr0);
  ASSERT_OK(section);
  const Signature signature = parse_signature_section(*section)->front();
  constexpr std::time_t kHundredYears = std::time_t{100} * 366 * 24 * 3600;
  for (const auto& [when, validity] : {std::pair{std::time_t{1000000000}, CertificateValidity::kNotYetValid},
                                       std::pair{kGoldenNow + kHundredYears, CertificateValidity::kExpired}}) {
    const auto check = check_signature(signature, when);
    ASSERT_OK(check);
    EXPECT_EQ(check->validity, validity);
    EXPECT_TRUE(check->covers(kPcr0));
    EXPECT_FALSE(require_usable(*check));
  }
}

TEST(SignatureSection, IsRefusedWhenCutAtAnyLength) {
  const auto section = make_signature_section(*golden_signer("ec256"), kPcr0);
  ASSERT_OK(section);
  for (std::size_t size = 0; size < section->size(); ++size) {
    const auto cut = parse_signature_section(std::span(*section).first(size));
    ASSERT_FALSE(cut) << size;
    ASSERT_EQ(cut.error().code(), ErrorCode::kEifParsing);
  }
  auto longer = *section;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(parse_signature_section(longer));
}

TEST(SignatureSection, IsRefusedWhenItPromisesMoreThanItHolds) {
  // Counts of 2^64-1 for the array, the map, and both byte arrays; indefinite lengths; values above 255.
  const std::string count = "\xff\xff\xff\xff\xff\xff\xff\xff";
  const std::string key = "\x73signing_certificate";
  for (const std::string& text :
       {"\x9b" + count, "\x81\xbb" + count, "\x81\xa2" + key + "\x9b" + count, std::string("\x9f\xff"),
        "\x81\xa1" + key + "\x9f\x01\xff", "\x81\xa1" + key + "\x82\x01\x19\x01\x00", std::string("\x80"),
        std::string("\xa0"), std::string("\x81\x01"), std::string("\x81\xa0")}) {
    EXPECT_FALSE(parse_signature_section(as_bytes(text)));
  }
}

TEST(SignatureSection, KeepsUnknownKeysOut) {
  CborOutput output;
  output.array(1).map(3).text("more").array(2).integer(-5).map(1).text("x").byte_string(as_bytes("y"));
  output.text("signing_certificate").byte_array(as_bytes("c")).text("signature").byte_array(as_bytes("s"));
  const auto signatures = parse_signature_section(output.take());
  ASSERT_OK(signatures);
  EXPECT_EQ(signatures->front().certificate_pem, "c");
  EXPECT_EQ(as_text(signatures->front().cose_sign1), "s");
}

TEST(SignatureSection, IsMadeOnlyIfItCanBeReadAgain) {
  // Nearly every byte of the certificate takes two bytes of the section.
  const auto fits = make_signature_section(LongSigner(kMaxSignatureBytes / 2 - 4096), kPcr0);
  ASSERT_OK(fits);
  EXPECT_LE(fits->size(), kMaxSignatureBytes);
  EXPECT_OK(parse_signature_section(*fits));
  const auto too_long = make_signature_section(LongSigner(kMaxSignatureBytes / 2 + 16384), kPcr0);
  ASSERT_FALSE(too_long);
  EXPECT_EQ(too_long.error().code(), ErrorCode::kSigning);
  EXPECT_NE(too_long.error().message().find("too large"), std::string::npos) << too_long.error().message();
}

// The text that an image signed with this certificate file carries.
Result<std::string> published(const std::string& certificate_file, std::vector<std::string>* keys_left_out = nullptr) {
  const TempFolder folder;
  write_file(folder / "cert.pem", certificate_file);
  NITRO_TRY(const auto signer, load_signer(golden("keys/ec384.key.pem"), folder / "cert.pem", kGoldenNow));
  if (keys_left_out != nullptr) *keys_left_out = signer->keys_left_out();
  NITRO_TRY(const auto section, make_signature_section(*signer, kPcr0));
  NITRO_TRY(const auto signatures, parse_signature_section(section));
  return signatures.front().certificate_pem;
}

std::string with_crlf(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '\n' ? std::string("\r\n") : std::string(1, c);
  return result;
}

TEST(SigningCertificate, AloneInItsFileIsPublishedByteForByte) {
  const std::string certificate = read_file(golden("keys/ec384.cert.pem"));
  const std::string other = read_file(golden("keys/ec256.cert.pem"));
  for (const std::string& file : {certificate, certificate + other, "\n" + certificate + "\n \n" + other + "\n\n",
                                  with_crlf(certificate + other), certificate.substr(0, certificate.size() - 1)}) {
    EXPECT_EQ(published(file).value(), file);
  }
}

TEST(SigningCertificate, IsPublishedWithoutAKeyThatLiesBesideIt) {
  const std::string certificate = read_file(golden("keys/ec384.cert.pem"));
  const std::string other = read_file(golden("keys/ec256.cert.pem"));
  const std::string key = read_file(golden("keys/ec384.key.pem"));
  const std::string label = key.substr(11, key.find("-----", 11) - 11);
  const std::string encrypted =
      "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: "
      "AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n"
      "c2VjcmV0\n-----END EC PRIVATE KEY-----\n";
  const std::string broken = "-----BEGIN PRIVATE KEY-----\n!!!\n-----END PRIVATE KEY-----\n";
  struct Case {
    std::string file;
    std::string published;
    std::vector<std::string> labels;
  };
  const Case cases[] = {
      {certificate + key, certificate, {label}},
      {key + certificate, certificate, {label}},
      {certificate + key + other, certificate + other, {label}},
      {with_crlf(key + certificate + other), with_crlf(certificate + other), {label}},
      {"Bag Attributes\n  localKeyID: 01\n" + certificate + "priv:\n  00:11\n", certificate, {}},
      {encrypted + certificate, certificate, {"EC PRIVATE KEY"}},
      {certificate + encrypted + key, certificate, {"EC PRIVATE KEY", label}},
      {certificate + broken + other, certificate, {"PRIVATE KEY"}},
      // A key that was cut off.
      {certificate + key.substr(0, key.size() / 2), certificate, {label}},
  };
  for (const Case& test : cases) {
    std::vector<std::string> labels;
    const auto text = published(test.file, &labels);
    ASSERT_OK(text) << test.file;
    EXPECT_EQ(*text, test.published) << test.file;
    EXPECT_EQ(labels, test.labels) << test.file;
  }
}

TEST(SigningCertificate, IsMissedInAFileThatHoldsAKeyOnly) {
  const auto text = published(read_file(golden("keys/ec384.key.pem")));
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().code(), ErrorCode::kSigning);
}

TEST(SigningCertificate, OfATrustedKindSignsNothingAndIsPublishedBesideOneThatDoes) {
  const std::string certificate = read_file(golden("keys/ec384.cert.pem"));
  std::string trusted = certificate;
  for (auto at = trusted.find("CERTIFICATE"); at != std::string::npos; at = trusted.find("CERTIFICATE", at + 20)) {
    trusted.insert(at, "TRUSTED ");
  }
  EXPECT_FALSE(published(trusted));
  EXPECT_EQ(published(trusted + certificate + read_file(golden("keys/ec384.key.pem"))).value(), trusted + certificate);
}

// Whoever implements Signer may hand over more than a certificate.
TEST(SignatureSection, HasNothingOfTheSignersTextButCertificates) {
  class Careless : public Signer {
   public:
    [[nodiscard]] const std::string& certificate_pem() const override { return text_; }
    Result<std::vector<std::byte>> sign_digest(std::span<const std::byte> digest) const override {
      return signer_->sign_digest(digest);
    }

   private:
    std::unique_ptr<Signer> signer_ = golden_signer("ec384");
    std::string text_ = read_file(golden("keys/ec384.key.pem")) + signer_->certificate_pem();
  };
  const auto section = make_signature_section(Careless(), kPcr0);
  ASSERT_OK(section);
  EXPECT_EQ(parse_signature_section(*section)->front().certificate_pem, read_file(golden("keys/ec384.cert.pem")));
}

TEST(Signing, MakesAnImageThatTheReaderFindsSigned) {
  const TempFolder folder;
  constexpr std::size_t kSignatureOffset = 85267;  // where "tiny" ends, of which all four are made
  for (const char* from : {"tiny", "signed-ec256", "signed-ec384", "resigned"}) {
    const std::string image = read_file(golden(std::string("eif/") + from + "/image.eif"));
    write_file(folder / "x.eif", image);
    const auto signer = golden_signer("ec384");
    const auto measurements = sign_image(folder / "x.eif", *signer);
    ASSERT_OK(measurements);
    nlohmann::ordered_json printed;
    printed["Measurements"] = to_json(*measurements);
    EXPECT_EQ(json_text(printed) + "\n", read_file(golden("eif/resigned/sign-eif.stdout.json")));

    const auto description = describe(folder / "x.eif");
    ASSERT_OK(description);
    EXPECT_TRUE(description->crc_ok);
    EXPECT_TRUE(description->signature->covers_image);
    EXPECT_EQ(description->measurements, *measurements);
    // Up to the signature the file is as it was, but for the section table.
    const std::string ours = read_file(folder / "x.eif");
    EXPECT_TRUE(ours.substr(548, kSignatureOffset - 548) == image.substr(548, kSignatureOffset - 548)) << from;
    EXPECT_EQ(ours.substr(0, 24), image.substr(0, 24)) << from;
  }
}

TEST(Signing, LeavesTheFileAloneWhenItFails) {
  const TempFolder folder;
  const std::string image = read_file(golden("eif/tiny/image.eif"));
  write_file(folder / "x.eif", image);
  const auto mismatch = sign_image(folder / "x.eif", MismatchedSigner());
  ASSERT_FALSE(mismatch);
  EXPECT_EQ(mismatch.error().code(), ErrorCode::kSigning);
  EXPECT_TRUE(read_file(folder / "x.eif") == image);

  std::string damaged = image;
  damaged[70000] = static_cast<char>(damaged[70000] ^ 1);
  write_file(folder / "x.eif", damaged);
  const auto refused = sign_image(folder / "x.eif", *golden_signer("ec384"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kEifParsing);
  EXPECT_TRUE(read_file(folder / "x.eif") == damaged);
  EXPECT_EQ(folder.entries(), 1U);
}

// What Writer never makes: version 2 or 3, with a signature (of something else) before the ramdisk.
void write_old_image(const std::string& path, std::uint16_t version, bool with_signature) {
  const Fd fd = open_file(path, O_RDWR | O_CREAT | O_TRUNC, 0600).value();
  auto writer = SectionWriter::create(fd.get(), HashAlgorithm::kSha384);
  ASSERT_OK(writer);
  ASSERT_OK(writer->add(SectionType::kKernel, from_bytes(as_bytes("kernel")), 7));
  ASSERT_OK(writer->add(SectionType::kCmdline, from_bytes(as_bytes("quiet"))));
  if (with_signature) {
    const auto section = make_signature_section(*golden_signer("ec256"), kPcr0);
    ASSERT_OK(section);
    ASSERT_OK(writer->add_unmeasured(SectionType::kSignature, *section));
  }
  ASSERT_OK(writer->add(SectionType::kRamdisk, from_bytes(as_bytes("ramdisk"))));
  RawHeader header;
  header.version = version;
  header.flags = format::kFlagAarch64;
  header.default_memory_bytes = 123;
  header.default_cpus = 45;
  ASSERT_OK(writer->write_header(header));
}

TEST(Signing, MovesASignatureInTheMiddleToTheEndAndKeepsAllElse) {
  const TempFolder folder;
  write_old_image(folder / "x.eif", 3, true);
  const auto before = describe(folder / "x.eif");
  ASSERT_OK(before);
  EXPECT_FALSE(before->signature->covers_image);
  ASSERT_OK(sign_image(folder / "x.eif", *golden_signer("ec384")));
  const auto reader = Reader::open(folder / "x.eif");
  ASSERT_OK(reader);
  ASSERT_EQ(reader->sections().size(), 4U);
  EXPECT_EQ(reader->sections()[0].flags, 7);
  EXPECT_EQ(reader->sections()[3].type, SectionType::kSignature);
  EXPECT_EQ(reader->header().version, 3);
  EXPECT_EQ(reader->header().flags, format::kFlagAarch64);
  EXPECT_EQ(reader->header().default_memory_bytes, 123U);
  EXPECT_EQ(reader->header().default_cpus, 45U);
  const auto after = reader->describe();
  ASSERT_OK(after);
  EXPECT_TRUE(after->crc_ok);
  EXPECT_TRUE(after->signature->covers_image);
  EXPECT_EQ(after->measurements.pcr0, before->measurements.pcr0);
}

TEST(Signing, MakesAnImageOfVersionTwoOneOfVersionThree) {
  const TempFolder folder;
  write_old_image(folder / "x.eif", 2, false);
  ASSERT_OK(sign_image(folder / "x.eif", *golden_signer("ec384")));
  const auto reader = Reader::open(folder / "x.eif");
  ASSERT_OK(reader);
  EXPECT_EQ(reader->header().version, 3);
}

TEST(Signing, NeedsASectionThatIsFree) {
  const TempFolder folder;
  const Fd fd = open_file(folder / "x.eif", O_RDWR | O_CREAT, 0600).value();
  auto writer = Writer::create(fd.get());
  ASSERT_OK(writer);
  ASSERT_OK(writer->add_kernel(from_bytes(as_bytes("kernel"))));
  ASSERT_OK(writer->add_cmdline("quiet"));
  ASSERT_OK(writer->add_metadata({}));
  for (int i = 0; i < 29; ++i) ASSERT_OK(writer->add_ramdisk(from_bytes(as_bytes("r"))));
  ASSERT_OK(writer->finish());
  const auto refused = sign_image(folder / "x.eif", *golden_signer("ec384"));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kEifParsing);
}

void expect_signing_refused(const Result<std::unique_ptr<Signer>>& signer, const std::string& part) {
  ASSERT_FALSE(signer) << part;
  EXPECT_EQ(signer.error().code(), ErrorCode::kSigning);
  EXPECT_NE(signer.error().message().find(part), std::string::npos) << signer.error().message();
}

TEST(LoadSigner, RefusesKeysAndCertificatesThatCannotSign) {
  const TempFolder folder;
  const std::string key = golden("keys/ec384.key.pem");
  const std::string certificate = golden("keys/ec384.cert.pem");
  expect_signing_refused(load_signer(golden("keys/rsa.key.pem"), golden("keys/rsa.cert.pem"), kGoldenNow),
                         "another kind");
  expect_signing_refused(load_signer(key, golden("keys/ec256.cert.pem"), kGoldenNow), "does not belong");
  expect_signing_refused(load_signer(key, golden("keys/rsa.cert.pem"), kGoldenNow), "another kind");
  expect_signing_refused(load_signer(certificate, certificate, kGoldenNow), "private key");
  expect_signing_refused(load_signer(key, key, kGoldenNow), "certificate");
  expect_signing_refused(load_signer(key, certificate, 1000000000), "valid only from");
  expect_signing_refused(load_signer(key, certificate, kGoldenNow + std::time_t{100} * 366 * 24 * 3600), "has expired");
  write_file(folder / "empty", "");
  expect_signing_refused(load_signer(folder / "empty", certificate, kGoldenNow), "private key");
  expect_signing_refused(load_signer(folder / "missing", certificate, kGoldenNow), "No such file");
  expect_signing_refused(load_signer(key, folder / "missing", kGoldenNow), "No such file");
}

TEST(LoadSigner, RefusesOtherCurvesAndEncryptedKeys) {
  const TempFolder folder;
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> other(EVP_EC_gen("secp256k1"), EVP_PKEY_free);
  ASSERT_TRUE(other);
  const auto write_key = [&](const std::string& path, EVP_PKEY* key, const EVP_CIPHER* cipher) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new_file(path.c_str(), "w"), BIO_free);
    char password[] = "secret";
    ASSERT_EQ(PEM_write_bio_PKCS8PrivateKey(bio.get(), key, cipher, cipher ? password : nullptr, cipher ? 6 : 0,
                                            nullptr, nullptr),
              1);
  };
  write_key(folder / "k1", other.get(), nullptr);
  expect_signing_refused(load_signer(folder / "k1", golden("keys/ec256.cert.pem"), kGoldenNow), "another kind");
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> p256(EVP_EC_gen("P-256"), EVP_PKEY_free);
  write_key(folder / "encrypted", p256.get(), EVP_aes_128_cbc());
  expect_signing_refused(load_signer(folder / "encrypted", golden("keys/ec256.cert.pem"), kGoldenNow), "is encrypted");
}

TEST(CertificateInfo, OfTextThatIsNoCertificateIsAnError) {
  for (const char* text : {"", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}) {
    const auto info = read_certificate_info(text);
    ASSERT_FALSE(info);
    EXPECT_EQ(info.error().code(), ErrorCode::kEifParsing);
  }
}

}  // namespace
}  // namespace nitro::eif
