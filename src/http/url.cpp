// SPDX-License-Identifier: Apache-2.0
#include "src/http/url.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <new>
#include <stdexcept>

#include "src/base/text.h"
#include "src/http/http.h"

namespace nitro::http {

namespace {

struct FreeText {
  void operator()(char* text) const { curl_free(text); }
};

}  // namespace

std::optional<Url> Url::parse(const std::string& text, unsigned flags) {
  Url url;
  url.url_.reset(curl_url());
  if (!url.url_) throw std::bad_alloc();
  if (curl_url_set(url.url_.get(), CURLUPART_URL, text.c_str(), flags) != CURLUE_OK) return std::nullopt;
  return url;
}

std::string Url::part(CURLUPart which, unsigned flags) const {
  char* text = nullptr;
  curl_url_get(url_.get(), which, &text, flags);
  const std::unique_ptr<char, FreeText> owner(text);
  return text != nullptr ? text : "";
}

std::optional<Peer> peer_of(const std::string& url) {
  const auto parsed = Url::parse(url);
  if (!parsed) return std::nullopt;
  Peer peer{parsed->part(CURLUPART_SCHEME), to_lower(parsed->part(CURLUPART_HOST)),
            parsed->part(CURLUPART_PORT, CURLU_DEFAULT_PORT)};
  if (peer.host.starts_with('[') && peer.host.ends_with(']')) peer.host = peer.host.substr(1, peer.host.size() - 2);
  return peer;
}

bool is_loopback(const std::string& host) {
  in_addr v4{};
  in6_addr v6{};
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == 127;
  if (::inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
    return IN6_IS_ADDR_LOOPBACK(&v6) || (IN6_IS_ADDR_V4MAPPED(&v6) && v6.s6_addr[12] == 127);
  }
  return to_lower(host) == "localhost";
}

std::string url_encoded(std::string_view text) {
  if (text.empty()) return {};  // libcurl would take a length of 0 for "up to the zero byte"
  if (text.size() > kMaxKeptBody) throw std::length_error("nitro::http::url_encoded");
  const std::unique_ptr<char, FreeText> encoded(curl_easy_escape(nullptr, text.data(), static_cast<int>(text.size())));
  if (!encoded) throw std::bad_alloc();
  return encoded.get();
}

}  // namespace nitro::http
