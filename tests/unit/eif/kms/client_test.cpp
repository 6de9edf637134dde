// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/client.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <memory>
#include <string>

#include "eif/kms/open_signer.h"
#include "eif/kms/service.h"
#include "src/base/bytes.h"
#include "temp_folder.h"
#include "tests/unit/eif/kms/fake_environment.h"

namespace nitro::kms {
namespace {

using testing::FakeEnvironment;

const std::string kArn = "arn:aws:kms:eu-central-1:123456789012:key/1234abcd";
const std::string kKeys = std::string(NITRO_TEST_DATA) + "/golden/keys/";

FakeEnvironment with_credentials() {
  FakeEnvironment fake;
  fake.variables.insert({{"AWS_ACCESS_KEY_ID", "AKID"}, {"AWS_SECRET_ACCESS_KEY", "hush"}});
  return fake;
}

KeyArn key(const std::string& text = kArn) {
  return parse_key_arn(text).value();
}

TEST(Endpoint, IsThatOfTheKeysRegionUnlessAnotherIsNamed) {
  FakeEnvironment fake;
  EXPECT_EQ(endpoint("kms", key(), fake.environment()), "https://kms.eu-central-1.amazonaws.com");
  EXPECT_EQ(endpoint("kms", key("arn:aws-cn:kms:cn-north-1:123456789012:key/a"), fake.environment()),
            "https://kms.cn-north-1.amazonaws.com.cn");
  EXPECT_EQ(endpoint("kms", key("arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/a"), fake.environment()),
            "https://kms.us-gov-west-1.amazonaws.com");
  fake.variables["AWS_USE_FIPS_ENDPOINT"] = "true";
  EXPECT_EQ(endpoint("kms", key(), fake.environment()), "https://kms-fips.eu-central-1.amazonaws.com");
  fake.variables["AWS_ENDPOINT_URL"] = "http://localhost:4566/";
  EXPECT_EQ(endpoint("kms", key(), fake.environment()), "http://localhost:4566");
  fake.variables["AWS_ENDPOINT_URL_KMS"] = "http://localhost:5000/prefix";
  EXPECT_EQ(endpoint("kms", key(), fake.environment()), "http://localhost:5000/prefix");
  EXPECT_EQ(endpoint("sts", key(), fake.environment()), "http://localhost:4566");
}

TEST(Client, AsksForASignatureOfADigest) {
  auto fake = with_credentials();
  fake.variables["AWS_SESSION_TOKEN"] = "token";
  fake.answer(200, R"({"Signature":"MAYCAQECAQI="})");
  Client client(key(), fake.environment());
  const auto signature = client.sign("ECDSA_SHA_384", as_bytes("\x01\x02"));
  ASSERT_OK(signature);
  EXPECT_EQ(to_hex(*signature), "3006020101020102");

  ASSERT_EQ(fake.asked.size(), 1U);
  const auto& request = fake.asked[0];
  EXPECT_EQ(request.method, "POST");
  EXPECT_EQ(request.url, "https://kms.eu-central-1.amazonaws.com/");
  EXPECT_EQ(request.headers,
            (std::vector<std::string>{"Content-Type: application/x-amz-json-1.1", "X-Amz-Target: TrentService.Sign"}));
  EXPECT_EQ(
      nlohmann::json::parse(request.body),
      (nlohmann::json{
          {"KeyId", kArn}, {"Message", "AQI="}, {"MessageType", "DIGEST"}, {"SigningAlgorithm", "ECDSA_SHA_384"}}));
  ASSERT_TRUE(request.aws_signature);
  EXPECT_EQ(request.aws_signature->region, "eu-central-1");
  EXPECT_EQ(request.aws_signature->service, "kms");
  EXPECT_EQ(request.aws_signature->access_key_id, "AKID");
  EXPECT_EQ(request.aws_signature->secret_access_key.text(), "hush");
  EXPECT_EQ(request.aws_signature->session_token.text(), "token");
  EXPECT_FALSE(request.follow_redirects);
  EXPECT_GT(request.total_timeout_seconds, 0);
}

TEST(Client, AsksForThePublicKey) {
  auto fake = with_credentials();
  fake.answer(200, R"({"KeySpec":"ECC_NIST_P256","KeyUsage":"SIGN_VERIFY","PublicKey":"AQI="})");
  fake.answer(200, R"({"CustomerMasterKeySpec":"RSA_2048","KeyUsage":"SIGN_VERIFY","PublicKey":"AQI="})");
  Client client(key(), fake.environment());
  const auto told = client.public_key();
  ASSERT_OK(told);
  EXPECT_EQ(told->spec, "ECC_NIST_P256");
  EXPECT_EQ(told->usage, "SIGN_VERIFY");
  EXPECT_EQ(to_hex(told->der), "0102");
  EXPECT_EQ(fake.asked.at(0).headers.at(1), "X-Amz-Target: TrentService.GetPublicKey");
  EXPECT_EQ(fake.asked.at(0).body, R"({"KeyId":")" + kArn + "\"}");
  const auto older = client.public_key();
  ASSERT_OK(older);
  EXPECT_EQ(older->spec, "RSA_2048");
}

TEST(Client, RefusesAnswersThatAreNone) {
  for (const char* body : {"", "[]", "{", "{}", R"({"PublicKey":""})", R"({"PublicKey":"***"})", R"({"PublicKey":1})",
                           R"({"Signature":"***"})"}) {
    auto fake = with_credentials();
    fake.answer(200, body);
    fake.answer(200, body);
    Client client(key(), fake.environment());
    const auto told = client.public_key();
    ASSERT_FALSE(told) << body;
    EXPECT_EQ(told.error().code(), ErrorCode::kSigning);
    EXPECT_FALSE(client.sign("ECDSA_SHA_256", as_bytes("d"))) << body;
  }
}

TEST(Client, SaysInOneSentenceWhatToDoAboutARefusal) {
  struct Row {
    int status;
    const char* body;
    const char* advice;
  };
  for (
      const Row& row : {
          Row{400, R"({"__type":"AccessDeniedException","Message":"no"})",
              "the credentials of the environment may not do that"},
          Row{400, R"({"__type":"com.amazonaws.kms#NotFoundException","message":"no"})", "there is no such key"},
          Row{400, R"({"__type":"DisabledException","message":"no"})", "enable it"},
          Row{400, R"({"__type":"KMSInvalidStateException"})", "present state"},
          Row{400, R"({"__type":"UnsupportedOperationException"})", "not for signing"},
          Row{400, R"({"__type":"InvalidKeyUsageException"})", "not for signing"},
          Row{400, R"({"__type":"UnrecognizedClientException"})", "does not know the credentials of the environment"},
          Row{400, R"({"__type":"ExpiredTokenException"})", "the credentials of the environment have expired"},
          Row{400, R"({"__type":"InvalidSignatureException","message":"The request signature we calculated"})",
              "does not belong to the access key ID"},
          Row{400,
              R"({"__type":"InvalidSignatureException","message":"Signature expired: 20261121T000000Z is now earlier"})",
              "this machine's clock is wrong"},
          Row{400, R"({"__type":"InvalidSignatureException","message":"Signature not yet current: 20261121T000000Z"})",
              "this machine's clock is wrong"},
          Row{400, R"({"__type":"SomethingNewException","message":"no"})",
              R"(it answers with status 400 "SomethingNewException")"},
          Row{403, "<html>", "it answers with status 403"},
          Row{400, R"({"__type":5})", "it answers with status 400"},
      }) {
    auto fake = with_credentials();
    fake.answer(row.status, row.body);
    Client client(key(), fake.environment());
    const auto told = client.public_key();
    ASSERT_FALSE(told) << row.body;
    const auto& message = told.error().message();
    EXPECT_EQ(told.error().code(), ErrorCode::kSigning);
    EXPECT_NE(message.find(row.advice), std::string::npos) << message;
    EXPECT_NE(message.find("GetPublicKey with the key \"" + kArn), std::string::npos) << message;
    EXPECT_EQ(message.find("hush"), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_EQ(fake.asked.size(), 1U) << row.body;
  }
}

TEST(Client, TriesThreeTimesWhatMayGoBetter) {
  for (const char* busy : {"503", "throttled", "nothing"}) {
    auto fake = with_credentials();
    const auto fail_once = [&] {
      if (std::string(busy) == "503") fake.answer(503, "");
      if (std::string(busy) == "throttled") fake.answer(400, R"({"__type":"ThrottlingException","message":"slow"})");
      if (std::string(busy) == "nothing") fake.answer_nothing();
    };
    fail_once();
    fail_once();
    fake.answer(200, R"({"Signature":"AQI="})");
    Client client(key(), fake.environment());
    EXPECT_OK(client.sign("ECDSA_SHA_256", as_bytes("d")));
    EXPECT_EQ(fake.pauses, (std::vector{std::chrono::milliseconds(500), std::chrono::milliseconds(1000)}));

    for (int i = 0; i < 3; ++i) fail_once();
    const auto given_up = client.sign("ECDSA_SHA_256", as_bytes("d"));
    ASSERT_FALSE(given_up);
    EXPECT_EQ(given_up.error().code(), ErrorCode::kSigning);
    EXPECT_EQ(fake.asked.size(), 6U);
  }
}

TEST(Client, LooksForCredentialsAgainOnlyWhenTheyHaveExpired) {
  FakeEnvironment fake;
  fake.variables["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"] = "/x";
  const auto credentials = [](const char* id) {
    return std::string(R"({"AccessKeyId":")") + id +
           R"(","SecretAccessKey":"s","Token":"t","Expiration":"2027-01-15T09:00:00Z"})";
  };
  fake.answer(200, credentials("FIRST"));
  for (int i = 0; i < 2; ++i) fake.answer(200, R"({"Signature":"AQI="})");
  Client client(key(), fake.environment());
  ASSERT_OK(client.sign("ECDSA_SHA_256", as_bytes("d")));
  ASSERT_OK(client.sign("ECDSA_SHA_256", as_bytes("d")));
  ASSERT_EQ(fake.asked.size(), 3U);

  fake.now += 3600;
  fake.answer(200, credentials("SECOND"));
  fake.answer(200, R"({"Signature":"AQI="})");
  ASSERT_OK(client.sign("ECDSA_SHA_256", as_bytes("d")));
  EXPECT_EQ(fake.asked.back().aws_signature->access_key_id, "SECOND");
}

// The public key of a golden certificate, as KMS tells it.
std::string public_key_answer(const std::string& name, const char* usage = "SIGN_VERIFY") {
  const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new_file((kKeys + name + ".cert.pem").c_str(), "r"),
                                                      BIO_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr),
                                                                X509_free);
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(X509_get0_pubkey(certificate.get()), &der);
  const auto encoded = http::to_base64(as_text(std::as_bytes(std::span(der, static_cast<std::size_t>(size)))));
  OPENSSL_free(der);
  return nlohmann::json{{"KeySpec", "SPEC_" + name}, {"KeyUsage", usage}, {"PublicKey", encoded}}.dump();
}

TEST(OpenSigner, AsksKmsForSignaturesOfTheCurvesAlgorithm) {
  for (const auto& [name, algorithm] : {std::pair{"ec256", "ECDSA_SHA_256"}, std::pair{"ec384", "ECDSA_SHA_384"},
                                        std::pair{"ec521", "ECDSA_SHA_512"}}) {
    auto fake = with_credentials();
    fake.answer(200, public_key_answer(name));
    const auto signer = open_signer(kArn, kKeys + name + ".cert.pem", fake.environment());
    ASSERT_OK(signer);
    EXPECT_EQ((*signer)->certificate_pem(), nitro::testing::read_file(kKeys + name + ".cert.pem"));
    fake.answer(200, R"({"Signature":"AQI="})");
    ASSERT_OK((*signer)->sign_digest(as_bytes("digest")));
    EXPECT_EQ(nlohmann::json::parse(fake.asked.back().body)["SigningAlgorithm"], algorithm);
  }
}

TEST(OpenSigner, RefusesKeysThatAreNotTheCertificatesOrCannotSignImages) {
  struct Row {
    std::string answer;
    const char* certificate;
    const char* sentence;
  };
  for (const Row& row :
       {Row{public_key_answer("ec256"), "ec384", "does not belong to the private key \"arn:aws:kms:"},
        Row{public_key_answer("rsa"), "ec384", "is of the kind \"SPEC_rsa\""},
        Row{public_key_answer("ec384", "KEY_AGREEMENT"), "ec384", "and for \"KEY_AGREEMENT\""},
        Row{R"({"KeySpec":"x","KeyUsage":"SIGN_VERIFY","PublicKey":"AQI="})", "ec384", "is of the kind \"x\""}}) {
    auto fake = with_credentials();
    fake.answer(200, row.answer);
    const auto signer = open_signer(kArn, kKeys + row.certificate + std::string(".cert.pem"), fake.environment());
    ASSERT_FALSE(signer) << row.sentence;
    EXPECT_EQ(signer.error().code(), ErrorCode::kSigning);
    EXPECT_NE(signer.error().message().find(row.sentence), std::string::npos) << signer.error().message();
  }
}

TEST(OpenSigner, FindsWhatIsWrongHereBeforeItAsksKms) {
  auto fake = with_credentials();
  EXPECT_FALSE(open_signer("arn:aws:kms:nonsense", kKeys + "ec384.cert.pem", fake.environment()));
  EXPECT_FALSE(open_signer(kArn, kKeys + "missing.pem", fake.environment()));
  EXPECT_FALSE(open_signer(kArn, kKeys + "rsa.cert.pem", fake.environment()));
  fake.now = 1000000000;
  EXPECT_FALSE(open_signer(kArn, kKeys + "ec384.cert.pem", fake.environment()));
  EXPECT_TRUE(fake.asked.empty());
}

TEST(OpenSigner, TakesAnythingElseForThePathOfAKey) {
  FakeEnvironment fake;
  EXPECT_OK(open_signer(kKeys + "ec384.key.pem", kKeys + "ec384.cert.pem", fake.environment()));
  EXPECT_FALSE(open_signer("./" + kArn, kKeys + "ec384.cert.pem", fake.environment()));
}

}  // namespace
}  // namespace nitro::kms
