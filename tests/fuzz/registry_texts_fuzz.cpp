// SPDX-License-Identifier: Apache-2.0
// Texts that come from users' files and from registries: rules of .dockerignore, files of logins, WWW-Authenticate.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "eif/image/credentials.h"
#include "eif/image/ignore_file.h"
#include "eif/image/token.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // char may alias any object.
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto rules = nitro::image::IgnoreRules::parse(text); rules) {
    const auto folder = rules->judge("a", {});
    (void)rules->judge("a/b.c", folder.state);
    (void)rules->has_exceptions_in("a");
  }
  (void)nitro::image::parse_challenges(text);
  (void)nitro::image::login_in(text, "docker.io", "library/alpine", [](const auto&, const auto&) {
    return nitro::Result<std::optional<nitro::image::Credentials>>(std::nullopt);
  });
  return 0;
}
