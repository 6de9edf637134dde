// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/types.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace nitro::image {

/// SHA-256 of a stream, in the notation of container tools: "sha256:" and 64 lower-case hexadecimal digits.
class Sha256 {
 public:
  Sha256();
  void update(std::span<const std::byte> bytes);
  /// Returns the digest of all bytes so far; call it once.
  [[nodiscard]] std::string finish();

 private:
  struct Free {
    void operator()(EVP_MD_CTX* context) const;
  };
  std::unique_ptr<EVP_MD_CTX, Free> context_;
};

[[nodiscard]] std::string sha256(std::span<const std::byte> bytes);

/// Whether `text` is "sha256:" and 64 lower-case hexadecimal digits, the only kind of digest that we verify.
[[nodiscard]] bool is_sha256(std::string_view text);

}  // namespace nitro::image
