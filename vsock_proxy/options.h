// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "nitro/result.h"
#include "vsock_proxy/config/endpoint.h"
#include "vsock_proxy/config/routes.h"

namespace nitro::proxy {

/// One service, as with the AWS tool: LOCAL_PORT REMOTE_ADDR REMOTE_PORT.
struct ForwardedService {
  std::uint32_t local_port = 0;
  std::string remote_host;  ///< as written; may contain {region}
  std::uint16_t remote_port = 0;
  std::string allowlist;  ///< path
  Family family = Family::kAny;
};

/// The command line of vsock-proxy, see vsock-proxy(1).
struct Options {
  std::optional<ForwardedService> service;
  std::string routes;  ///< path; used instead of `service`
  bool only_check = false;
  unsigned relay_threads = 1;
  std::uint32_t max_connections = 0;  ///< 0: no limit
  std::string local;                  ///< name or ID of a local enclave; empty: this machine's vsock
  std::chrono::seconds drain_time{30};
  std::optional<Endpoint> metrics;
};

/// What the command line says: options; a text to print, with the exit status; or, with exit status 1, what is wrong.
struct Printed {
  std::string text;
  int status = 0;
};
struct CommandLine {
  std::optional<Options> options;
  Printed printed;  ///< when there are no options: to stdout if its status is 0, else to stderr
};

/// Errors: kInvalidArgument, for values that are of the wrong kind. A line that does not have the right form is
/// Printed, with exit status 2.
Result<CommandLine> parse_options(int argc, const char* const* argv);

}  // namespace nitro::proxy
