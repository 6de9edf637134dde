// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "nitro/error.h"
#include "nitro/result.h"
#include "src/base/secret.h"
#include "src/http/http.h"

namespace nitro::http {

/// A proxy named by the environment.
struct Proxy {
  std::string url;       ///< "http://proxy.example.com:3128", without credentials: safe for messages
  std::string variable;  ///< the variable that named it: "HTTPS_PROXY"
  std::string user;
  Secret password;
};

/// Returns an environment variable; empty if it is not set.
using Variable = std::function<std::string(const char* name)>;

/// Returns the proxy for requests to `peer`, or nullopt to connect directly, by the rules of Go's ProxyFromEnvironment,
/// which docker, podman and skopeo follow:
///
///   - HTTP_PROXY for http, HTTPS_PROXY for https, in upper or else in lower case; otherwise ALL_PROXY, as in curl. A
///     proxy without a scheme is an http:// one; https and socks URLs are accepted too.
///   - This machine's loopback is always reached directly.
///   - NO_PROXY is a comma-separated list of hosts (including their subdomains), ".example.com" or "*.example.com"
///     (subdomains only), addresses, and networks ("10.0.0.0/8"); all but networks may have a port; "*" matches
///     everything.
///   - If REQUEST_METHOD is set, HTTP_PROXY may come from the header "Proxy:" that a visitor of a web server sent; it
///     is refused.
///
/// Errors: `failure` for a malformed proxy URL, and for the last rule; no message contains credentials.
Result<std::optional<Proxy>> proxy_for(const Peer& peer, const Variable& variable, ErrorCode failure);

}  // namespace nitro::http
