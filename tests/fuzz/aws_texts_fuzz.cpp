// SPDX-License-Identifier: Apache-2.0
// Texts that credentials for AWS are in: the shared files (INI), answers of metadata services and of credential_process
// (JSON), answers of AWS STS (XML). What comes out has to be fit for a header, and no error may tell of the text.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "eif/kms/credentials.h"
#include "eif/kms/profile.h"
#include "eif/kms/sts.h"
#include "src/base/rfc3339.h"
#include "tests/fuzz/fuzz.h"

using nitro::Secret;
namespace kms = nitro::kms;

namespace {

using nitro::fuzz::require;

bool is_one_word(const std::string& text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c <= '~'; });
}

void check(const nitro::Result<kms::Credentials>& credentials) {
  if (!credentials) {
    require(credentials.error().message().size() < 200);
    return;
  }
  require(!credentials->access_key_id.empty() && !credentials->secret_access_key.empty());
  require(is_one_word(credentials->access_key_id) && is_one_word(credentials->secret_access_key.text()) &&
          is_one_word(credentials->session_token.text()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // char may alias any object.
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const auto file : {kms::SharedFile::kConfig, kms::SharedFile::kCredentials}) {
    const auto profile = kms::profile_in(text, file, "default");
    if (!profile) continue;
    for (const auto& [key, value] : *profile) {
      require(key.find('\n') == std::string::npos && value.text().find('\n') == std::string::npos);
    }
  }
  const Secret secret{std::string(text)};
  check(kms::credentials_in(secret, "the source"));
  check(kms::credentials_in_answer(secret, "the source"));
  (void)nitro::parse_rfc3339(text);
  return 0;
}
