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

/// Gives the next bytes of a body: fills `buffer` from its start and returns how many bytes it holds now; 0 at the end.
using BodySource = std::function<Result<std::size_t>(std::span<std::byte> buffer)>;

struct Response {
  long status = 0;
  /// Names in lower case; of the last response. A field that comes several times has its values joined with ", ".
  std::map<std::string, std::string> headers;
  std::string body;  ///< of a failure, or when there was no sink
  [[nodiscard]] bool success() const { return status >= 200 && status < 300; }
};

/// Authenticates requests to AWS: Signature Version 4 over the method, the URL, all headers and the body.
struct AwsSignature {
  std::string region;   ///< "eu-central-1"
  std::string service;  ///< "kms"
  std::string access_key_id;
  Secret secret_access_key;  ///< never sent
  Secret session_token;      ///< of temporary credentials; empty: there is none
};

struct Request {
  std::string method = "GET";        ///< "GET", "POST", "PUT", "DELETE"
  std::string url;                   ///< http:// or https://
  std::string unix_socket;           ///< path of the socket to speak through; empty: the network
  std::vector<std::string> headers;  ///< "Name: value"
  /// The same, with a password or a token in them: for the peer of `url` only, not for one that it redirects to.
  std::vector<Secret> secret_headers;
  std::string body;    ///< of a POST
  Secret secret_body;  ///< the same instead of `body`, with a password or a token in it
  BodySource upload;   ///< of a POST instead of `body`: sent piece by piece (chunked)
  ByteSink sink;       ///< takes the body of a success (2xx); without one it is kept, up to kMaxKeptBody
  /// Is shown status and headers of a success before the sink gets its first byte.
  std::function<Result<void>(const Response& head)> on_success;
  /// Up to ten, of a GET, and of a POST (307, 308) within the same peer. Another peer (scheme, host or port) gets
  /// neither `secret_headers` nor our certificate.
  bool follow_redirects = false;
  /// Whether http:// is allowed elsewhere than on this machine's loopback, also after a redirect.
  bool insecure_http = true;
  /// To the host itself, whatever the proxies' variables say (see src/http/proxy.h); always so on the loopback.
  bool direct = false;
  std::optional<AwsSignature> aws_signature;  ///< signs the request; `body` only, not `upload`
  int connect_timeout_seconds = 10;
  /// Fail when nothing moves for so long; 0: wait, as building an image may be silent for long.
  int stall_timeout_seconds = 0;
  int total_timeout_seconds = 0;  ///< fail when the answer is not complete by then; 0: wait
  /// With what the server's certificate is checked, alone; empty: the system's authorities, or those that SSL_CERT_FILE
  /// and SSL_CERT_DIR name.
  std::string ca_file;
  std::string more_authorities;  ///< certificates (PEM) that are trusted besides the system's; without `ca_file` only
  std::string client_certificate_file;  ///< ours, for the peer of `url` only; empty: none
  std::string client_key_file;
  ErrorCode failure = ErrorCode::kDockerImagePull;  ///< what it is to the user when there is no answer
};

/// Most bytes kept of a body, and of what a failing server says.
inline constexpr std::size_t kMaxKeptBody = std::size_t{8} << 20;

/// Sends one request and takes the whole answer; any status is a success here. Errors: `request.failure` when there
/// is no answer, it breaks off, or is longer than kMaxKeptBody, when a header has a line break in it, and when libcurl
/// lacks something that the request needs (nothing is sent then); those of the sink and of the source of the body. A
/// proxy that was used is named.
Result<Response> send(const Request& request);

/// The parts of a URL that say where a request goes, as send() understands them.
struct Peer {
  std::string scheme;  ///< "http", "https"
  std::string host;  ///< a name in small letters or an IPv4 address in its usual form; an IPv6 address without brackets
  std::string port;  ///< a number, also when it is the usual one
  bool operator==(const Peer&) const = default;
};
/// Nothing when `url` is not one.
[[nodiscard]] std::optional<Peer> peer_of(const std::string& url);

/// Whether `host` (as in Peer) is this machine itself: localhost, 127.0.0.0/8, ::1.
[[nodiscard]] bool is_loopback(const std::string& host);

/// `text` as a part of a URL's query: everything but letters, digits and "-._~" as %XX, in
/// capitals (RFC 3986, section 2.1).
[[nodiscard]] std::string url_encoded(std::string_view text);

[[nodiscard]] std::string to_base64(std::string_view text);
/// Nothing when `text` is no base64.
[[nodiscard]] std::optional<std::string> from_base64(std::string_view text);

}  // namespace nitro::http
