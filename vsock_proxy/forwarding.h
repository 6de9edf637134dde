// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <variant>

#include "src/runtime/log.h"
#include "vsock_proxy/config/allowlist.h"
#include "vsock_proxy/options.h"

namespace nitro::proxy {

/// Returns the route for the one service of the AWS tool's command line, or the entry that the allowlist would need to
/// allow it. As with that tool, an entry allows a service by the same name and port, or if its name currently has the
/// server's first address. Waits for name servers. Errors: kInvalidArgument when the server's name is none; kSocket
/// when it cannot be resolved; those of load_allowlist() and `ask_region`.
Result<std::variant<Route, AllowedService>> allowed_route(const ForwardedService& service, const AskRegion& ask_region,
                                                          Log& log);

}  // namespace nitro::proxy
