// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "src/base/secret.h"
#include "src/http/http.h"

namespace nitro::http {

/// Sends a request; send(), or a test's own.
using Send = std::function<Result<Response>(const Request& request)>;

/// A request to a service at a link-local address: never through a proxy, for which the address would mean its own
/// machine; gives up after a second without a connection, because such services exist only on EC2.
[[nodiscard]] Request link_local_request(std::string url, ErrorCode failure);

/// The metadata service of an EC2 instance, version 2.
class InstanceMetadata {
 public:
  /// Gets a session token. `endpoint` and `mode`: the values of AWS_EC2_METADATA_SERVICE_ENDPOINT and
  /// AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE (IPv4, IPv6), or empty for http://169.254.169.254. Errors: `failure`.
  static Result<InstanceMetadata> open(std::string endpoint, std::string_view mode, Send send, ErrorCode failure);

  /// Returns what is at `path`, "/latest/meta-data/…". Errors: as open(), also when there is nothing.
  [[nodiscard]] Result<Secret> get(const std::string& path) const;

 private:
  InstanceMetadata(std::string url, Send send, ErrorCode failure)
      : url_(std::move(url)), send_(std::move(send)), failure_(failure) {}

  std::string url_;
  Send send_;
  ErrorCode failure_;
  Secret token_;
};

/// Sends `request` and returns the body of a success. Errors: those of `send`; the request's code for another status.
Result<Secret> body_of_success(const Send& send, const Request& request);

}  // namespace nitro::http
