// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/evp.h>

#include <cstddef>
#include <memory>
#include <span>

#include "nitro/eif/measure.h"

namespace nitro::eif {

/// One running hash (OpenSSL). A failure inside OpenSSL is stored and reported by finish(), so that threads that cannot
/// report errors may call update(). Copies continue independently from the same state.
class Digest {
 public:
  /// Errors: kHasher if OpenSSL lacks the algorithm (because of its build or its provider).
  static Result<Digest> create(HashAlgorithm algorithm);

  void update(std::span<const std::byte> bytes);
  /// Returns a copy with the same state. Errors: kHasher.
  [[nodiscard]] Result<Digest> fork() const;
  /// Returns the hash; the object must not be used afterwards. Errors: kHasher.
  Result<Pcr> finish();
  /// Returns the PCR value for content with this hash. Errors: kHasher.
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

/// Returns OpenSSL's name of an algorithm, such as "SHA2-384".
[[nodiscard]] const char* openssl_name(HashAlgorithm algorithm);

}  // namespace nitro::eif
