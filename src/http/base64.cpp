// SPDX-License-Identifier: Apache-2.0
#include <openssl/evp.h>

#include "src/http/http.h"

namespace nitro::http {

std::string to_base64(std::string_view text) {
  std::string encoded(4 * ((text.size() + 2) / 3) + 1, '\0');
  // unsigned char may alias any object.
  const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(encoded.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  encoded.resize(static_cast<std::size_t>(size));
  return encoded;
}

std::optional<std::string> from_base64(std::string_view text) {
  const auto padding = text.ends_with("==") ? 2U : text.ends_with("=") ? 1U : 0U;
  // OpenSSL is lenient with padding in the middle.
  const bool odd = text.substr(0, text.size() - padding).find('=') != std::string_view::npos;
  if (text.size() % 4 != 0 || odd || text.size() > (std::size_t{1} << 20)) return std::nullopt;
  std::string decoded(text.size() / 4 * 3, '\0');
  // unsigned char may alias any object.
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(decoded.data()),
                                   reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size < 0) return std::nullopt;
  // The result counts the bytes that the padding stands for.
  decoded.resize(static_cast<std::size_t>(size) - padding);
  return decoded;
}

}  // namespace nitro::http
