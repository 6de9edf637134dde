// SPDX-License-Identifier: Apache-2.0
#include "eif/image/daemon.h"

#include <unistd.h>

#include <algorithm>

#include "eif/image/credentials.h"
#include "eif/image/docker_config.h"
#include "eif/image/engine_report.h"
#include "eif/image/secret_document.h"
#include "src/base/bytes.h"
#include "src/base/environment.h"
#include "src/base/output_file.h"

namespace nitro::image {

namespace {

constexpr std::string_view kUnixScheme = "unix://";
constexpr std::string_view kTcpScheme = "tcp://";

// Returns the reason of an engine's refusal: {"message": "…"}, or plain text.
std::string reason_of(const http::Response& response) {
  std::string reason;
  if (const auto json = parse_document(response.body, "the engine's answer"); json) reason = text_at(*json, "message");
  if (reason.empty()) reason = response.body.substr(0, 500);
  while (!reason.empty() && (reason.back() == '\n' || reason.back() == '\r')) reason.pop_back();
  return reason.empty() ? "HTTP status " + std::to_string(response.status) : printable(reason);
}

// Returns JSON with passwords as the header `name`, in URL-safe base64.
Secret secret_header(std::string_view name, nlohmann::ordered_json json) {
  const WipedDocument wiped(json);
  const Secret plain(json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  auto text = http::to_base64(plain.text());
  for (char& c : text) c = c == '+' ? '-' : c == '/' ? '_' : c;
  const Secret value(std::move(text));
  return Secret(std::string(name) + ": " + value.text());
}

// Returns a login in the form that engines take ("AuthConfig").
nlohmann::ordered_json auth_config(const Credentials& credentials, std::string_view host) {
  nlohmann::ordered_json config{{"serveraddress", registry_key(host)}};
  if (!credentials.identity_token.empty()) {
    config["identitytoken"] = credentials.identity_token.text();
  } else {
    config["username"] = credentials.user;
    config["password"] = credentials.password.text();
  }
  return config;
}

// Returns every stored login, by registry: only the engine knows which images a Dockerfile needs. A login that cannot
// be obtained is reported and left out, as it may not be needed.
Result<nlohmann::ordered_json> all_logins(const Engine::Listener& listener) {
  auto logins = nlohmann::ordered_json::object();
  NITRO_TRY(const auto keys, registries_with_logins());
  for (const auto& key : keys) {
    const auto host = registry_host(key);
    NITRO_TRY(const auto login, stored_login(host, {}));
    if (!login.problem.empty() && listener) listener(login.problem + "; going on without that login");
    if (login.credentials) logins[registry_key(host)] = auth_config(*login.credentials, host);
  }
  return logins;
}

// Where engines listen by default, in the order of trying.
std::vector<std::string> default_sockets() {
  std::vector<std::string> paths{"/var/run/docker.sock"};
  if (const auto folder = environment_variable("XDG_RUNTIME_DIR")) {
    paths.push_back(*folder + "/podman/podman.sock");
  }
  paths.emplace_back("/run/podman/podman.sock");
  return paths;
}

}  // namespace

Result<Engine> Engine::at(const std::string& address, const std::string& tls_folder) {
  Engine engine;
  engine.address_ = address;
  if (address.starts_with(kUnixScheme)) {
    engine.unix_socket_ = address.substr(kUnixScheme.size());
    engine.base_url_ = "http://engine";
  } else if (address.starts_with(kTcpScheme) || address.starts_with("http://") || address.starts_with("https://")) {
    engine.tls_folder_ = tls_folder;
    const bool tls = !tls_folder.empty() || address.starts_with("https://");
    auto host = address.substr(address.find("://") + 3);
    while (host.ends_with('/')) host.pop_back();
    // Docker's default ports.
    const bool has_port = host.find(':', host.find(']') == std::string::npos ? 0 : host.find(']')) != std::string::npos;
    if (address.starts_with(kTcpScheme) && !has_port) host += tls ? ":2376" : ":2375";
    engine.base_url_ = std::string(tls ? "https" : "http") + "://" + host;
  } else {
    return fail(ErrorCode::kDockerImagePull,
                "the address " + quote(address) + " of a container engine is not understood; use unix:// or tcp://");
  }
  auto ping = engine.request("/_ping");
  ping.connect_timeout_seconds = 5;
  ping.stall_timeout_seconds = 10;
  const auto answer = http::send(ping);
  if (!answer || !answer->success()) {
    return fail(ErrorCode::kDockerImagePull, "no container engine answers at " + address + " (" +
                                                 (answer ? reason_of(*answer) : answer.error().message()) + ")");
  }
  return engine;
}

Result<std::optional<Engine>> Engine::find() {
  using Found = std::optional<Engine>;
  if (const auto host = environment_variable("DOCKER_HOST")) {
    std::string tls_folder;
    if (environment_variable("DOCKER_TLS_VERIFY") || host->starts_with("https://")) {
      tls_folder = environment_variable("DOCKER_CERT_PATH").value_or("");
      if (tls_folder.empty()) tls_folder = docker_folder();
    }
    NITRO_TRY(auto engine, at(*host, tls_folder));
    return Found(std::move(engine));
  }
  NITRO_TRY(const auto context, current_context());
  if (context) {
    NITRO_TRY(auto engine, at(context->address, context->tls_folder));
    return Found(std::move(engine));
  }
  std::string reasons;
  for (const auto& path : default_sockets()) {
    // A socket that does not exist has no engine behind it.
    if (::access(path.c_str(), F_OK) != 0) continue;
    auto engine = at(std::string(kUnixScheme) + path, {});
    if (engine) return Found(*std::move(engine));
    reasons += (reasons.empty() ? "" : "; ") + engine.error().message();
  }
  if (reasons.empty()) return Found();
  return fail(ErrorCode::kDockerImagePull, reasons);
}

Result<Engine> Engine::find_any() {
  NITRO_TRY(auto engine, find());
  if (engine) return *std::move(engine);
  std::string sockets;
  for (const auto& path : default_sockets()) sockets += (sockets.empty() ? "" : ", ") + path;
  return fail(ErrorCode::kDockerImagePull,
              "there is no container engine: DOCKER_HOST is not set, and none of these is there: " + sockets);
}

http::Request Engine::request(const std::string& path) const {
  http::Request request;
  request.url = base_url_ + path;
  request.unix_socket = unix_socket_;
  if (!tls_folder_.empty()) {
    request.ca_file = tls_folder_ + "/ca.pem";
    request.client_certificate_file = tls_folder_ + "/cert.pem";
    request.client_key_file = tls_folder_ + "/key.pem";
  }
  return request;
}

Result<std::optional<nlohmann::ordered_json>> Engine::inspect(const std::string& name) const {
  using Inspection = std::optional<nlohmann::ordered_json>;
  auto answer = http::send(request("/images/" + name + "/json"));
  if (!answer)
    return fail_within("asking the engine at " + address_ + " for image " + quote(name), std::move(answer).error());
  if (answer->status == 404) return Inspection();
  if (!answer->success()) {
    return fail(ErrorCode::kDockerImagePull,
                "the engine at " + address_ + " does not tell of image " + quote(name) + ": " + reason_of(*answer));
  }
  auto json = parse_document(answer->body, "the engine's description of the image");
  if (!json) return Failure(std::move(json).error().as(ErrorCode::kDockerImagePull));
  return Inspection(std::move(*json));
}

Result<void> Engine::listen(http::Request request, ErrorCode code, const Listener& listener) const {
  EngineReport report(listener);
  request.sink = [&report](std::span<const std::byte> bytes) -> Result<void> {
    report.take(bytes);
    return {};
  };
  request.failure = code;
  const auto answer = http::send(request);
  if (!answer) return fail_within("the engine at " + address_, answer.error());
  report.end();
  const auto reason = answer->success() ? report.error() : reason_of(*answer);
  if (reason.empty()) return {};
  std::string output;
  for (const auto& text : report.printed()) output += "\n  " + text;
  return fail(code, "the engine at " + address_ + (output.empty() ? " " : " printed" + output + "\nand ") +
                        "reports: " + printable(reason));
}

Result<void> Engine::pull(const std::string& name, const std::string& architecture, const Listener& listener) const {
  NITRO_TRY(const auto parsed, parse_image_name(name));
  auto order = request("/images/create?fromImage=" + http::url_encoded(name) +
                       "&platform=" + http::url_encoded("linux/" + architecture));
  order.method = "POST";
  NITRO_TRY(const auto login, stored_login(parsed.host, parsed.repository));
  if (!login.problem.empty() && listener) listener(login.problem + "; going on without a login");
  if (login.credentials) {
    order.secret_headers.push_back(secret_header("X-Registry-Auth", auth_config(*login.credentials, parsed.host)));
  }
  auto pulled = listen(std::move(order), ErrorCode::kDockerImagePull, listener);
  if (!pulled && !login.problem.empty()) {
    return fail(pulled.error().code(), pulled.error().message() + " (" + login.problem + ")");
  }
  return pulled;
}

Result<void> Engine::build(http::BodySource context, const std::string& name, const std::string& architecture,
                           const Listener& listener) const {
  auto order = request("/build?dockerfile=Dockerfile&rm=1&forcerm=1&t=" + http::url_encoded(name) +
                       "&platform=" + http::url_encoded("linux/" + architecture));
  order.method = "POST";
  order.headers.emplace_back("Content-Type: application/x-tar");
  NITRO_TRY(auto logins, all_logins(listener));
  if (!logins.empty()) order.secret_headers.push_back(secret_header("X-Registry-Config", std::move(logins)));
  order.upload = std::move(context);
  return listen(std::move(order), ErrorCode::kDockerImageBuild, listener);
}

Result<ImageSource> Engine::open(const std::string& name, const SourceOptions& options, Budget& budget) const {
  NITRO_TRY(auto inspection, inspect(name));
  if (!inspection)
    return fail(ErrorCode::kDockerImagePull, "the engine at " + address_ + " has no image " + quote(name));
  NITRO_TRY(Fd scratch, make_scratch_file());
  std::uint64_t size = 0;
  auto save = request("/images/" + name + "/get");
  save.sink = [&](std::span<const std::byte> bytes) {
    size += bytes.size();
    return write_all(scratch.get(), bytes);
  };
  const auto step = "saving image " + quote(name) + " from the engine at " + address_;
  auto answer = http::send(save);
  if (!answer) return fail_within(step, std::move(answer).error());
  if (!answer->success()) return fail(ErrorCode::kDockerImagePull, step + ": " + reason_of(*answer));
  auto source =
      read_docker_archive(Extent{std::make_shared<const Fd>(std::move(scratch)), 0, size}, {}, budget, options);
  if (!source) return fail_within(step, std::move(source).error());
  source->name = name;
  source->inspection = std::move(*inspection);
  return source;
}

}  // namespace nitro::image
