// SPDX-License-Identifier: Apache-2.0
#include "eif/image/daemon.h"

#include <unistd.h>

#include <algorithm>
#include <deque>

#include "eif/image/credentials.h"
#include "eif/image/docker_config.h"
#include "nitro/bytes.h"
#include "nitro/output_file.h"
#include "nitro/text.h"

namespace nitro::image {

namespace {

constexpr std::string_view kUnixScheme = "unix://";
constexpr std::string_view kTcpScheme = "tcp://";
// How many lines of a failed build are shown: what a command of a Dockerfile printed tells more than its status.
constexpr std::size_t kKeptLines = 20;
constexpr std::size_t kMaxKeptLineBytes = 500;

// What an engine says when it refuses: {"message": "…"}, or plain text.
std::string reason_of(const http::Response& response) {
  std::string reason;
  if (const auto json = parse_document(response.body, "the engine's answer"); json) reason = text_at(*json, "message");
  if (reason.empty()) reason = response.body.substr(0, 500);
  while (!reason.empty() && (reason.back() == '\n' || reason.back() == '\r')) reason.pop_back();
  return reason.empty() ? "HTTP status " + std::to_string(response.status) : printable(reason);
}

// {"status":"Downloading","progressDetail":{"current":3145728,"total":12582912},"id":"4f4fb700ef54"}
std::string progress_line(const nlohmann::ordered_json& step) {
  auto text = text_at(step, "stream");
  if (!text.empty()) return text;
  text = text_at(step, "status");
  if (const auto id = text_at(step, "id"); !id.empty() && !text.empty()) text = id + ": " + text;
  const auto* detail = value_at(step, "progressDetail");
  if (text.empty() || detail == nullptr) return text;
  const auto mib = [detail](const char* key) -> std::string {
    const auto* bytes = value_at(*detail, key);
    if (bytes == nullptr || !bytes->is_number_unsigned()) return {};
    return in_mib(bytes->get<std::uint64_t>());
  };
  if (const auto current = mib("current"); !current.empty()) {
    const auto total = mib("total");
    text += " " + current + (total.empty() ? "" : " of " + total) + " MiB";
  }
  return text;
}

// JSON in a header: base64 in the alphabet of URLs.
std::string header_value(const nlohmann::ordered_json& json) {
  auto text = http::to_base64(json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  for (char& c : text) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return text;
}

// A login as engines take it ("AuthConfig").
nlohmann::ordered_json auth_config(const Credentials& credentials, std::string_view host) {
  nlohmann::ordered_json config{{"serveraddress", registry_key(host)}};
  if (!credentials.identity_token.empty()) {
    config["identitytoken"] = credentials.identity_token;
  } else {
    config["username"] = credentials.user;
    config["password"] = credentials.password;
  }
  return config;
}

// Every stored login, by registry: only the engine knows which images a Dockerfile needs. One that cannot be had is
// said and left out, as it may not be needed.
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

// Where engines listen by default, in the order they are tried.
std::vector<std::string> default_sockets() {
  std::vector<std::string> paths{"/var/run/docker.sock"};
  if (const auto folder = environment("XDG_RUNTIME_DIR"); !folder.empty()) {
    paths.push_back(folder + "/podman/podman.sock");
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
    // The ports that are Docker's.
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
  if (const auto host = environment("DOCKER_HOST"); !host.empty()) {
    std::string tls_folder;
    if (!environment("DOCKER_TLS_VERIFY").empty() || host.starts_with("https://")) {
      tls_folder = environment("DOCKER_CERT_PATH");
      if (tls_folder.empty()) tls_folder = docker_folder();
    }
    NITRO_TRY(auto engine, at(host, tls_folder));
    return Found(std::move(engine));
  }
  NITRO_TRY(const auto context, current_context());
  if (context) {
    NITRO_TRY(auto engine, at(context->address, context->tls_folder));
    return Found(std::move(engine));
  }
  std::string reasons;
  for (const auto& path : default_sockets()) {
    // A socket that we cannot even see is nobody's whom we could ask.
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

// Pulling and building answer with a line of JSON for each step, and with success even when they fail: the last line
// then has the error.
Result<void> Engine::listen(http::Request request, ErrorCode code, const Listener& listener) const {
  std::string line;
  std::string reason;
  std::deque<std::string> printed;
  const auto take_line = [&] {
    if (const auto json = parse_document(line, "the engine's answer"); json) {
      if (const auto error = text_at(*json, "error"); !error.empty()) reason = error;
      const auto text = progress_line(*json);
      for (std::string_view rest = text; !rest.empty();) {
        const auto end = rest.find('\n');
        const auto said = rest.substr(0, end);
        rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
        if (said.empty()) continue;
        if (listener) listener(said);
        if (text_at(*json, "stream").empty()) continue;
        printed.push_back(printable(said.substr(0, kMaxKeptLineBytes)));
        if (printed.size() > kKeptLines) printed.pop_front();
      }
    }
    line.clear();
  };
  request.sink = [&](std::span<const std::byte> bytes) -> Result<void> {
    for (const char c : as_text(bytes)) {
      if (c == '\n') {
        take_line();
      } else if (line.size() < http::kMaxKeptBody) {
        line += c;
      }
    }
    return {};
  };
  request.failure = code;
  auto answer = http::send(request);
  if (!answer) return fail_within("the engine at " + address_, std::move(answer).error());
  if (!line.empty()) take_line();
  if (!answer->success()) reason = reason_of(*answer);
  if (reason.empty()) return {};
  while (reason.ends_with('\n')) reason.pop_back();
  std::string output;
  for (const auto& text : printed) output += "\n  " + text;
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
    order.headers.push_back("X-Registry-Auth: " + header_value(auth_config(*login.credentials, parsed.host)));
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
  NITRO_TRY(const auto logins, all_logins(listener));
  if (!logins.empty()) order.headers.push_back("X-Registry-Config: " + header_value(logins));
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
