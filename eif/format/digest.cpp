// SPDX-License-Identifier: Apache-2.0
#include "eif/format/digest.h"

#include <string>

namespace nitro::eif {
namespace {

Failure hash_failure(HashAlgorithm algorithm) {
  return fail(ErrorCode::kHasher, std::string("computing ") + openssl_name(algorithm) +
                                      ": OpenSSL refuses; check its configuration (openssl.cnf)");
}

}  // namespace

const char* openssl_name(HashAlgorithm algorithm) {
  switch (algorithm) {
    case HashAlgorithm::kSha256:
      return "SHA2-256";
    case HashAlgorithm::kSha384:
      return "SHA2-384";
    case HashAlgorithm::kSha512:
      return "SHA2-512";
  }
  return "";
}

Result<Digest> Digest::create(HashAlgorithm algorithm) {
  const std::unique_ptr<EVP_MD, decltype(&EVP_MD_free)> type(EVP_MD_fetch(nullptr, openssl_name(algorithm), nullptr),
                                                             EVP_MD_free);
  Context context(EVP_MD_CTX_new());
  if (!type || !context || EVP_DigestInit_ex2(context.get(), type.get(), nullptr) != 1) return hash_failure(algorithm);
  return Digest(algorithm, std::move(context));
}

void Digest::update(std::span<const std::byte> bytes) {
  if (EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) != 1) failed_ = true;
}

Result<Digest> Digest::fork() const {
  Context context(EVP_MD_CTX_new());
  if (failed_ || !context || EVP_MD_CTX_copy_ex(context.get(), context_.get()) != 1) return hash_failure(algorithm_);
  return Digest(algorithm_, std::move(context));
}

Result<Pcr> Digest::finish() {
  Pcr value(digest_size(algorithm_));
  unsigned size = 0;
  // OpenSSL's byte type is unsigned char, which may alias any object (C++20 [basic.lval]/11).
  auto* out = reinterpret_cast<unsigned char*>(value.data());
  if (failed_ || EVP_DigestFinal_ex(context_.get(), out, &size) != 1 || size != value.size()) {
    return hash_failure(algorithm_);
  }
  return value;
}

Result<Pcr> Digest::finish_as_pcr() {
  NITRO_TRY(const Pcr content, finish());
  NITRO_TRY(Digest extended, create(algorithm_));
  extended.update(Pcr(content.size()));
  extended.update(content);
  return extended.finish();
}

}  // namespace nitro::eif
