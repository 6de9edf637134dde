// SPDX-License-Identifier: Apache-2.0
#include "eif/image/token.h"

#include <algorithm>

#include "eif/image/secret_document.h"
#include "eif/image/source.h"
#include "src/base/bytes.h"
#include "src/base/text.h"
#include "src/http/http.h"

namespace nitro::image {

namespace {

constexpr const char* kClient = "nitro-cli";
constexpr std::string_view kBlanks = " \t,";

// The OAuth 2 method: all parameters in the body of a POST.
Result<http::Response> post(http::Request order, const std::string& realm, const Secret& grant,
                            const std::string& query) {
  order.method = "POST";
  order.url = realm;
  order.headers.emplace_back("Content-Type: application/x-www-form-urlencoded");
  order.secret_body = Secret(grant.text() + "&client_id=" + kClient + "&" + query);
  return http::send(order);
}

Result<http::Response> ask(const std::string& realm, const std::string& query,
                           const std::optional<Credentials>& credentials, const http::Request& base) {
  if (credentials && !credentials->identity_token.empty()) {
    const Secret grant("grant_type=refresh_token&refresh_token=" +
                       http::url_encoded(credentials->identity_token.text()));
    return post(base, realm, grant, query);
  }
  auto order = base;
  order.url = realm + (realm.find('?') == std::string::npos ? "?" : "&") + query;
  if (credentials) order.secret_headers.push_back(basic_authorization(*credentials));
  auto answer = http::send(order);
  // For servers that only know the newer method.
  if (answer && credentials && (answer->status == 404 || answer->status == 405)) {
    const Secret grant("grant_type=password&username=" + http::url_encoded(credentials->user) +
                       "&password=" + http::url_encoded(credentials->password.text()));
    return post(base, realm, grant, query);
  }
  return answer;
}

}  // namespace

std::string Challenge::parameter(const std::string& key) const {
  const auto found = parameters.find(key);
  return found == parameters.end() ? std::string() : found->second;
}

std::vector<Challenge> parse_challenges(std::string_view header) {
  std::vector<Challenge> challenges;
  while (true) {
    const auto start = header.find_first_not_of(kBlanks);
    if (start == std::string_view::npos) return challenges;
    header = header.substr(start);
    const auto end = header.find_first_of(" \t,=");
    auto word = to_lower(header.substr(0, end));
    if (end == std::string_view::npos || header[end] != '=') {
      challenges.push_back({std::move(word), {}});
      header = end == std::string_view::npos ? std::string_view() : header.substr(end);
      continue;
    }
    header = header.substr(end + 1);
    std::string value;
    if (header.starts_with('"')) {
      std::size_t i = 1;
      for (; i < header.size() && header[i] != '"'; ++i) {
        if (header[i] == '\\' && i + 1 < header.size()) ++i;
        value += header[i];
      }
      header = header.substr(std::min(header.size(), i + 1));
    } else {
      const auto comma = header.find(',');
      value = header.substr(0, comma);
      header = comma == std::string_view::npos ? std::string_view() : header.substr(comma);
    }
    if (!challenges.empty()) challenges.back().parameters[std::move(word)] = std::move(value);
  }
}

Secret basic_authorization(const Credentials& credentials) {
  const Secret login(credentials.user + ":" + credentials.password.text());
  return Secret("Authorization: Basic " + http::to_base64(login.text()));
}

std::string registry_reason(const http::Response& response) {
  if (const auto json = parse_document(response.body, "the registry's answer"); json) {
    if (const auto* errors = array_at(*json, "errors"); errors != nullptr && !errors->empty()) {
      const auto message = text_at(errors->front(), "message");
      if (!message.empty()) return printable(message);
      if (const auto code = text_at(errors->front(), "code"); !code.empty()) return printable(code);
    }
  }
  return "HTTP status " + std::to_string(response.status);
}

Result<Secret> token_in(const Secret& answer) {
  auto json = parse_document(answer.text(), "the answer of the token server");
  if (!json) return Failure(std::move(json).error().as(ErrorCode::kDockerImagePull));
  const WipedDocument wiped(*json);
  Secret token(text_at(*json, "token"));
  if (token.empty()) token = Secret(text_at(*json, "access_token"));
  const bool fit = std::all_of(token.text().begin(), token.text().end(), [](char c) { return c > ' ' && c <= '~'; });
  if (token.empty() || !fit) return fail(ErrorCode::kDockerImagePull, "the token server gives no token");
  return token;
}

Result<Secret> bearer_authorization(const Challenge& challenge, const std::string& repository,
                                    const std::optional<Credentials>& credentials, const http::Request& base) {
  const auto realm = challenge.parameter("realm");
  if (realm.empty()) return fail(ErrorCode::kDockerImagePull, "it does not say where tokens are to be had");
  // Some registries name no service, and their token servers reject an empty one.
  auto query = "scope=" + http::url_encoded("repository:" + repository + ":pull");
  if (const auto service = challenge.parameter("service"); !service.empty()) {
    query = "service=" + http::url_encoded(service) + "&" + query;
  }
  auto answer = ask(realm, query, credentials, base);
  if (!answer) return fail_within("asking for a token", answer.error());
  if (!answer->success()) {
    return fail(ErrorCode::kDockerImagePull,
                std::string(credentials ? "it refuses the stored login" : "it gives no anonymous access") + " (" +
                    registry_reason(*answer) + ")");
  }
  NITRO_TRY(const auto token, token_in(Secret(std::move(answer->body))));
  return Secret("Authorization: Bearer " + token.text());
}

}  // namespace nitro::image
