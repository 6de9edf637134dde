// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "eif/kms/credentials.h"
#include "eif/kms/environment.h"
#include "eif/kms/key_arn.h"
#include "nitro/result.h"

namespace nitro::kms {

/// KMS's description of a key pair.
struct PublicKey {
  std::string spec;            ///< "ECC_NIST_P384", "RSA_2048"
  std::string usage;           ///< "SIGN_VERIFY", "KEY_AGREEMENT"
  std::vector<std::byte> der;  ///< SubjectPublicKeyInfo (RFC 5280)
};

/// Makes requests to AWS KMS about one key, over HTTPS, signed with the credentials from find_credentials(); those are
/// looked up when first needed, and again when they have expired. See endpoint() and ask_service() for the server and
/// the retries.
class Client {
 public:
  Client(KeyArn key, Environment environment) : key_(std::move(key)), environment_(std::move(environment)) {}

  /// Calls GetPublicKey. Errors: kSigning, one sentence that says what to do.
  Result<PublicKey> public_key();
  /// Calls Sign for a digest: `algorithm` is "ECDSA_SHA_256", "ECDSA_SHA_384" or "ECDSA_SHA_512". Returns a signature
  /// in DER (ECDSA-Sig-Value). Errors: as above.
  Result<std::vector<std::byte>> sign(std::string_view algorithm, std::span<const std::byte> digest);

 private:
  Result<nlohmann::ordered_json> call(const char* action, nlohmann::json parameters);

  KeyArn key_;
  Environment environment_;
  std::optional<Credentials> credentials_;
};

}  // namespace nitro::kms
