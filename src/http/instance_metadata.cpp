// SPDX-License-Identifier: Apache-2.0
#include "src/http/instance_metadata.h"

#include <fmt/format.h>

#include "src/base/bytes.h"
#include "src/base/text.h"

namespace nitro::http {
namespace {

constexpr const char* kHost = "http://169.254.169.254";
constexpr const char* kHostV6 = "http://[fd00:ec2::254]";

}  // namespace

Request link_local_request(std::string url, ErrorCode failure) {
  Request request;
  request.url = std::move(url);
  request.direct = true;
  request.connect_timeout_seconds = 1;
  request.total_timeout_seconds = 5;
  request.failure = failure;
  return request;
}

Result<Secret> body_of_success(const Send& send, const Request& request) {
  auto response = send(request);
  if (!response) return Failure(std::move(response).error());
  Secret body(std::move(response->body));
  if (!response->success()) {
    return fail(request.failure, fmt::format("{} answers with status {}", quote(request.url), response->status));
  }
  return body;
}

Result<InstanceMetadata> InstanceMetadata::open(std::string endpoint, std::string_view mode, Send send,
                                                ErrorCode failure) {
  if (endpoint.empty()) endpoint = to_lower(mode) == "ipv6" ? kHostV6 : kHost;
  while (endpoint.ends_with('/')) endpoint.pop_back();
  InstanceMetadata metadata(std::move(endpoint), std::move(send), failure);
  auto request = link_local_request(metadata.url_ + "/latest/api/token", failure);
  request.method = "PUT";
  request.headers = {"X-aws-ec2-metadata-token-ttl-seconds: 60"};
  NITRO_TRY(metadata.token_, body_of_success(metadata.send_, request));
  return metadata;
}

Result<Secret> InstanceMetadata::get(const std::string& path) const {
  auto request = link_local_request(url_ + path, failure_);
  request.headers = {"X-aws-ec2-metadata-token: " + token_.text()};
  return body_of_success(send_, request);
}

}  // namespace nitro::http
