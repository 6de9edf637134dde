// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/credential_endpoints.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/http/instance_metadata.h"

namespace nitro::kms {

namespace {

constexpr std::string_view kContainerHost = "http://169.254.170.2";
// Addresses of container services besides this machine's own: ECS, EKS (IPv4, IPv6).
constexpr std::array kContainerAddresses = {"169.254.170.2", "169.254.170.23", "fd00:ec2::23"};
constexpr std::size_t kMaxTokenBytes = std::size_t{1} << 16;

bool may_have_token(const http::Peer& peer) {
  return peer.scheme == "https" || http::is_loopback(peer.host) ||
         std::find(kContainerAddresses.begin(), kContainerAddresses.end(), peer.host) != kContainerAddresses.end();
}

// Returns an empty Secret if there is none.
Result<Secret> container_token(const Environment& environment) {
  Secret token(environment.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN"));
  if (const auto path = environment.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); !path.empty()) {
    auto text = read_text_file(path, kMaxTokenBytes);
    if (!text) return Failure(std::move(text).error().as(ErrorCode::kSigning));
    token = Secret(*std::move(text));
  }
  // It becomes a header line, which must not end before the token does.
  if (token.text().find_first_of("\r\n") != std::string::npos) {
    return fail(ErrorCode::kSigning, "the token for the container's credentials has more than one line");
  }
  return token;
}

Result<std::string> container_url(const Environment& environment) {
  if (const auto path = environment.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); !path.empty()) {
    return std::string(kContainerHost) + (path.starts_with('/') ? "" : "/") + path;
  }
  auto url = environment.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI");
  const auto peer = http::peer_of(url);
  if (!peer || (peer->scheme != "https" && peer->scheme != "http") || !may_have_token(*peer)) {
    return fail(
        ErrorCode::kSigning,
        fmt::format("AWS_CONTAINER_CREDENTIALS_FULL_URI is {}; it has to be an https URL, or an http URL of this "
                    "machine or of the endpoint of ECS or EKS",
                    quote(url)));
  }
  return url;
}

}  // namespace

Result<std::optional<Credentials>> container_credentials(const Environment& environment) {
  if (environment.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").empty() &&
      environment.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI").empty()) {
    return std::optional<Credentials>();
  }
  constexpr const char* kSource = "the container's credentials";
  NITRO_TRY(auto url, container_url(environment));
  auto request = http::link_local_request(std::move(url), ErrorCode::kSigning);
  NITRO_TRY(const auto token, container_token(environment));
  if (!token.empty()) request.headers.push_back("Authorization: " + token.text());
  auto body = http::body_of_success(environment.send, request);
  if (!body) return fail_within(kSource, std::move(body).error());
  NITRO_TRY(auto credentials, credentials_in(*body, kSource));
  return std::optional(std::move(credentials));
}

Result<Credentials> instance_credentials(const Environment& environment) {
  NITRO_TRY(const auto metadata,
            http::InstanceMetadata::open(environment.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT"),
                                         environment.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE"),
                                         environment.send, ErrorCode::kSigning));
  const std::string roles_path = "/latest/meta-data/iam/security-credentials/";
  auto roles = metadata.get(roles_path);
  if (!roles) return fail_within("this EC2 instance has no role", std::move(roles).error());
  const auto role = roles->text().substr(0, roles->text().find_first_of("\r\n"));
  NITRO_TRY(const auto body, metadata.get(roles_path + http::url_encoded(role)));
  return credentials_in(body, "the instance's role " + quote(role));
}

}  // namespace nitro::kms
