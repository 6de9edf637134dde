// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nitro/byte_sink.h"
#include "nitro/error.h"
#include "nitro/result.h"
#include "src/base/secret.h"

namespace nitro::http {

/// Provides the next bytes of a body: fills `buffer` from its start and returns the number of bytes; 0 at the end.
using BodySource = std::function<Result<std::size_t>(std::span<std::byte> buffer)>;

struct Response {
  long status = 0;
  /// Of the last response; names in lower case. The values of a repeated field are joined with ", ".
  std::map<std::string, std::string> headers;
  std::string body;  ///< of a failure, or if there was no sink
  [[nodiscard]] bool success() const { return status >= 200 && status < 300; }
};

/// Authenticates requests to AWS: Signature Version 4 over the method, the URL, all headers and the body.
struct AwsSignature {
  std::string region;   ///< "eu-central-1"
  std::string service;  ///< "kms"
  std::string access_key_id;
  Secret secret_access_key;  ///< never sent
  Secret session_token;      ///< of temporary credentials; empty if there is none
};

struct Request {
  std::string method = "GET";        ///< "GET", "POST", "PUT", "DELETE"
  std::string url;                   ///< http:// or https://
  std::string unix_socket;           ///< path of the socket to connect to; empty: the network
  std::vector<std::string> headers;  ///< "Name: value"
  /// Like `headers`, but with a password or token: sent to the peer of `url` only, not to one that it redirects to.
  std::vector<Secret> secret_headers;
  std::string body;    ///< of a POST
  Secret secret_body;  ///< like `body`, but with a password or token; replaces it
  BodySource upload;   ///< of a POST, replaces `body`: sent piece by piece (chunked)
  ByteSink sink;       ///< takes the body of a success (2xx); without a sink it is kept, up to kMaxKeptBody
  /// Called with the status and headers of a success before the sink gets its first byte.
  std::function<Result<void>(const Response& head)> on_success;
  /// Follows up to ten redirects of a GET, and of a POST (307, 308) within the same peer. Another peer (scheme, host or
  /// port) gets neither `secret_headers` nor our certificate.
  bool follow_redirects = false;
  /// Whether http:// is allowed beyond this machine's loopback, also after a redirect.
  bool insecure_http = true;
  /// Ignores the proxy variables (see src/http/proxy.h). The loopback is always reached directly.
  bool direct = false;
  std::optional<AwsSignature> aws_signature;  ///< signs the request; `body` only, not `upload`
  int connect_timeout_seconds = 10;
  /// Fails if no data moves for this long; 0: waits, as building an image may be silent for long.
  int stall_timeout_seconds = 0;
  int total_timeout_seconds = 0;  ///< fails if the answer is not complete by then; 0: waits
  /// The only authorities for the server's certificate; empty: those of SSL_CERT_FILE and SSL_CERT_DIR, or else of the
  /// system.
  std::string ca_file;
  std::string more_authorities;         ///< certificates (PEM) to trust besides the system's; only without `ca_file`
  std::string client_certificate_file;  ///< ours, for the peer of `url` only; empty if there is none
  std::string client_key_file;
  ErrorCode failure = ErrorCode::kDockerImagePull;  ///< error code if there is no answer
};

/// Limit for the bytes kept of a body or of a failing server's message.
inline constexpr std::size_t kMaxKeptBody = std::size_t{8} << 20;

/// Sends one request and receives the whole answer; any status counts as success. Errors: `request.failure` when there
/// is no answer, when it breaks off or is longer than kMaxKeptBody, when a header contains a line break, and when
/// libcurl lacks something that the request needs (then nothing is sent); those of the sink and of the body's source.
/// Messages name the proxy that was used.
Result<Response> send(const Request& request);

/// The parts of a URL that determine where a request goes, as send() interprets them.
struct Peer {
  std::string scheme;  ///< "http", "https"
  std::string host;    ///< a lower-case name or an IPv4 address in its usual form; an IPv6 address without brackets
  std::string port;    ///< a number, even if it is the default
  bool operator==(const Peer&) const = default;
};
/// Returns nullopt if `url` is not valid.
[[nodiscard]] std::optional<Peer> peer_of(const std::string& url);

/// Whether `host` (as in Peer) is this machine: localhost, 127.0.0.0/8, ::1.
[[nodiscard]] bool is_loopback(const std::string& host);

/// Encodes `text` for the query of a URL: everything but letters, digits and "-._~" as %XX, in upper case (RFC 3986,
/// section 2.1).
[[nodiscard]] std::string url_encoded(std::string_view text);

[[nodiscard]] std::string to_base64(std::string_view text);
/// Returns nullopt if `text` is not base64.
[[nodiscard]] std::optional<std::string> from_base64(std::string_view text);

}  // namespace nitro::http
