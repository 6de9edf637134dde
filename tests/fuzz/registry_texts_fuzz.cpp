// SPDX-License-Identifier: Apache-2.0
// Texts that come from users' files, registries and engines: rules of .dockerignore, files of logins, WWW-Authenticate,
// answers of token servers, reports of engines. A token has to be fit for a header, and what an engine says the same
// however it arrives.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "eif/image/credentials.h"
#include "eif/image/engine_report.h"
#include "eif/image/ignore_file.h"
#include "eif/image/token.h"
#include "src/base/bytes.h"
#include "tests/fuzz/fuzz.h"

namespace {

using nitro::fuzz::require;

std::string said(std::string_view text, std::size_t step) {
  std::string heard;
  const nitro::image::EngineReport::Listener listener = [&heard](std::string_view line) {
    heard += std::string(line) + "\n";
  };
  nitro::image::EngineReport report(listener);
  while (!text.empty()) {
    const auto part = text.substr(0, step);
    report.take(nitro::as_bytes(part));
    text.remove_prefix(part.size());
  }
  report.end();
  require(report.printed().size() <= nitro::image::EngineReport::kKeptLines);
  for (const auto& line : report.printed()) heard += line + "\n";
  return heard + report.error();
}

}  // namespace

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
  if (const auto token = nitro::image::token_in(nitro::Secret(std::string(text))); token) {
    require(!token->empty());
    require(std::all_of(token->text().begin(), token->text().end(), [](char c) { return c > ' ' && c <= '~'; }));
  }
  require(said(text, 1) == said(text, size + 1));
  return 0;
}
