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

/// A proxy that the environment names.
struct Proxy {
  std::string url;       ///< "http://proxy.example.com:3128", without a login: fit for messages
  std::string variable;  ///< that named it: "HTTPS_PROXY"
  std::string user;
  Secret password;
};

/// An environment variable; empty when it is not set.
using Variable = std::function<std::string(const char* name)>;

/// The proxy for requests to `peer`, by the rules of Go's ProxyFromEnvironment, which docker, podman and skopeo follow;
/// nothing means the host itself.
///
///   - HTTP_PROXY for http, HTTPS_PROXY for https, in capitals or else in small letters; ALL_PROXY where there is none,
///     as curl has it. A proxy without a scheme is an http:// one; https and socks URLs are understood, too.
///   - This machine's loopback is reached without one, whatever the variables say.
///   - NO_PROXY lists, with commas: hosts (and all below them), ".example.com" or "*.example.com" (only those below),
///     addresses, networks ("10.0.0.0/8"), each but the last with or without a port; "*" is everything.
///   - Where REQUEST_METHOD is set, HTTP_PROXY may be what a visitor of a web server sent as the header "Proxy:"; it is
///     refused.
///
/// Errors: `failure` for a proxy whose URL is not understood, and for the last rule; no message holds a login.
Result<std::optional<Proxy>> proxy_for(const Peer& peer, const Variable& variable, ErrorCode failure);

}  // namespace nitro::http
