// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/evp.h>

#include <cstddef>
#include <memory>
#include <span>

#include "nitro/eif/measure.h"

namespace nitro::eif {

/// One running hash (OpenSSL). A failure inside OpenSSL is remembered and reported by finish(), so that update() can be
/// called from a thread that has nobody to tell. Copies continue independently from the same state.
class Digest {
 public:
  /// Errors: kHasher, when OpenSSL has no such algorithm (a build or a provider without it).
  static Result<Digest> create(HashAlgorithm algorithm);

  void update(std::span<const std::byte> bytes);
  /// A hash of the same bytes so far. Errors: kHasher.
  [[nodiscard]] Result<Digest> fork() const;
  /// The hash; the object is used up. Errors: kHasher.
  Result<Pcr> finish();
  /// The PCR value with the hash as its content's digest. Errors: kHasher.
  Result<Pcr> finish_as_pcr();

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
  };
  using Context = std::unique_ptr<EVP_MD_CTX, Free>;
  Digest(HashAlgorithm algorithm, Context context) : algorithm_(algorithm), context_(std::move(context)) {}

  HashAlgorithm algorithm_;
  Context context_;
  bool failed_ = false;
};

/// The OpenSSL name of an algorithm: "SHA2-384".
[[nodiscard]] const char* openssl_name(HashAlgorithm algorithm);

}  // namespace nitro::eif
