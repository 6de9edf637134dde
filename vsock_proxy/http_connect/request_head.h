// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace nitro::proxy {

/// The head of one HTTP/1 request, as it arrives in pieces (RFC 9112).
class RequestHead {
 public:
  /// Limit for the head, including the request line.
  static constexpr std::size_t kMaxBytes = 8192;

  RequestHead();
  RequestHead(const RequestHead&) = delete;
  RequestHead& operator=(const RequestHead&) = delete;
  ~RequestHead();

  enum class State {
    kIncomplete,
    kComplete,
    kMalformed,  ///< not HTTP, or a CONNECT whose target is not HOST:PORT
    kTooLarge,
  };
  /// Takes the next bytes. After kComplete, rest() has those that follow the head; after anything else but kIncomplete
  /// nothing more may be taken.
  State take(std::span<const std::byte> bytes);

  // After kComplete:
  [[nodiscard]] bool is_connect() const;
  [[nodiscard]] bool is_get() const;
  /// Of CONNECT: the host as normalized_host() returns it.
  [[nodiscard]] const std::string& host() const { return host_; }
  [[nodiscard]] std::uint16_t port() const { return port_; }
  /// Of another method: as sent.
  [[nodiscard]] const std::string& target() const { return target_; }
  [[nodiscard]] std::vector<std::byte> take_rest() { return std::move(rest_); }

 private:
  struct Parser;
  bool parse_authority();

  std::unique_ptr<Parser> parser_;
  std::size_t size_ = 0;
  std::string target_;
  std::string host_;
  std::uint16_t port_ = 0;
  std::vector<std::byte> rest_;
};

/// An answer that closes the connection, with this body. `status`: "403 Forbidden".
[[nodiscard]] std::string http_answer(std::string_view status, std::string_view content_type, std::string_view body);

}  // namespace nitro::proxy
