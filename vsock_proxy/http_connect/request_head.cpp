// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/http_connect/request_head.h"

#include <fmt/format.h>
#include <http_parser.h>

#include "src/base/number.h"
#include "vsock_proxy/config/host_pattern.h"

namespace nitro::proxy {

struct RequestHead::Parser {
  http_parser parser{};
  http_parser_settings settings{};
  bool complete = false;
};

RequestHead::RequestHead() : parser_(std::make_unique<Parser>()) {
  ::http_parser_init(&parser_->parser, HTTP_REQUEST);
  ::http_parser_settings_init(&parser_->settings);
  parser_->parser.data = this;
  parser_->settings.on_url = [](http_parser* parser, const char* at, std::size_t size) {
    static_cast<RequestHead*>(parser->data)->target_.append(at, size);
    return 0;
  };
  parser_->settings.on_headers_complete = [](http_parser* parser) {
    static_cast<RequestHead*>(parser->data)->parser_->complete = true;
    // Whatever follows is not for this parser.
    ::http_parser_pause(parser, 1);
    return 0;
  };
}

RequestHead::~RequestHead() = default;

RequestHead::State RequestHead::take(std::span<const std::byte> bytes) {
  http_parser& parser = parser_->parser;
  const std::size_t room = kMaxBytes - size_;
  const std::size_t offered = std::min(bytes.size(), room);
  std::size_t used =
      ::http_parser_execute(&parser, &parser_->settings, reinterpret_cast<const char*>(bytes.data()), offered);
  size_ += used;
  if (!parser_->complete) {
    if (HTTP_PARSER_ERRNO(&parser) != HPE_OK) return State::kMalformed;
    return size_ == kMaxBytes ? State::kTooLarge : State::kIncomplete;
  }
  // The parser stops before the last line feed of the head.
  if (used < bytes.size() && bytes[used] == std::byte{'\n'}) ++used;
  rest_.assign(bytes.begin() + static_cast<std::ptrdiff_t>(used), bytes.end());
  if (is_connect() && !parse_authority()) return State::kMalformed;
  return State::kComplete;
}

bool RequestHead::is_connect() const {
  return parser_->parser.method == HTTP_CONNECT;
}

bool RequestHead::is_get() const {
  return parser_->parser.method == HTTP_GET;
}

bool RequestHead::parse_authority() {
  // Only the authority form, host ":" port (RFC 9112, section 3.2.3), without user information.
  const std::size_t colon = target_.rfind(':');
  if (colon == std::string::npos) return false;
  std::string_view host = std::string_view(target_).substr(0, colon);
  const bool bracketed = host.size() > 2 && host.starts_with('[') && host.ends_with(']');
  if (bracketed) host = host.substr(1, host.size() - 2);
  if (bracketed != (host.find(':') != std::string_view::npos)) return false;
  auto normal = normalized_host(host);
  if (!normal) return false;
  host_ = std::move(*normal);
  port_ = parse_number<std::uint16_t>(std::string_view(target_).substr(colon + 1)).value_or(0);
  return port_ != 0;
}

std::string http_answer(std::string_view status, std::string_view content_type, std::string_view body) {
  return fmt::format("HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}", status,
                     content_type, body.size(), body);
}

}  // namespace nitro::proxy
