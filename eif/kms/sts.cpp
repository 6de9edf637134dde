// SPDX-License-Identifier: Apache-2.0
#include "eif/kms/sts.h"

#include <string_view>
#include <utility>

#include "eif/kms/service.h"
#include "src/base/bytes.h"
#include "src/base/rfc3339.h"

namespace nitro::kms {

namespace {

// Returns the text of the first element with this name. STS answers in XML; the few values that matter contain no
// markup, and those used for more than messages contain no escaped characters.
std::string element(std::string_view xml, const std::string& name) {
  const auto start = xml.find("<" + name + ">");
  const auto end = xml.find("</" + name + ">");
  if (start == std::string_view::npos || end == std::string_view::npos || end < start) return {};
  const auto text = start + name.size() + 2;
  return std::string(xml.substr(text, end - text));
}

Refusal refusal_in(const std::string& body) {
  return {element(body, "Code"), element(body, "Message")};
}

Result<Credentials> ask(const Environment& environment, const KeyArn& key, const Role& role, http::Request request,
                        const std::string& source) {
  request.method = "POST";
  request.url = endpoint("sts", key, environment) + "/";
  request.headers = {"Content-Type: application/x-www-form-urlencoded"};
  request.body += "&Version=2011-06-15&RoleArn=" + http::url_encoded(role.arn) +
                  "&RoleSessionName=" + http::url_encoded(role.session_name.empty() ? "nitro-cli" : role.session_name);
  NITRO_TRY(const auto body, ask_service(environment, std::move(request),
                                         {.step = "asking AWS STS for the role " + quote(role.arn),
                                          .source = source,
                                          .read_refusal = refusal_in}));
  return credentials_in_answer(body, "the role " + quote(role.arn));
}

}  // namespace

Result<Credentials> credentials_in_answer(const Secret& answer, const std::string& source) {
  const auto& xml = answer.text();
  return checked({.access_key_id = element(xml, "AccessKeyId"),
                  .secret_access_key = Secret(element(xml, "SecretAccessKey")),
                  .session_token = Secret(element(xml, "SessionToken")),
                  .expires = parse_rfc3339(element(xml, "Expiration")),
                  .source = source});
}

Result<Credentials> assume_role(const Environment& environment, const KeyArn& key, const Role& role,
                                const Credentials& by) {
  http::Request request;
  request.body = "Action=AssumeRole";
  if (!role.external_id.empty()) request.body += "&ExternalId=" + http::url_encoded(role.external_id);
  request.aws_signature = signature_of(by, key.region, "sts");
  return ask(environment, key, role, std::move(request), by.source);
}

Result<Credentials> assume_role_with_web_identity(const Environment& environment, const KeyArn& key, const Role& role,
                                                  const Secret& token) {
  http::Request request;
  request.body = "Action=AssumeRoleWithWebIdentity&WebIdentityToken=" + http::url_encoded(token.text());
  return ask(environment, key, role, std::move(request), "the web identity");
}

}  // namespace nitro::kms
