// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <curl/curl.h>

#include <memory>
#include <optional>
#include <string>

namespace nitro::http {

/// A URL parsed by libcurl, which also sends the requests: the two cannot disagree about where a request goes.
class Url {
 public:
  /// Returns nullopt if `text` is not a URL. `flags` are those of curl_url_set(3).
  [[nodiscard]] static std::optional<Url> parse(const std::string& text, unsigned flags = 0);

  /// Returns a part, or an empty string if there is none. `flags` are those of curl_url_get(3).
  [[nodiscard]] std::string part(CURLUPart which, unsigned flags = 0) const;

 private:
  struct Free {
    void operator()(CURLU* url) const { curl_url_cleanup(url); }
  };
  std::unique_ptr<CURLU, Free> url_;
};

}  // namespace nitro::http
