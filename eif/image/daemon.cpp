// SPDX-License-Identifier: Apache-2.0
#include "eif/image/daemon.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "eif/image/credentials.h"
#include "nitro/bytes.h"
#include "nitro/output_file.h"

namespace nitro::image {

namespace {

constexpr std::string_view kUnixScheme = "unix://";
constexpr std::string_view kTcpScheme = "tcp://";

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// What an engine says when it refuses: {"message": "…"}, or plain text.
std::string reason_of(const http::Response& response) {
  std::string reason;
  if (const auto json = parse_document(response.body, "the engine's answer"); json) reason = text_at(*json, "message");
  if (reason.empty()) reason = response.body.substr(0, 500);
  while (!reason.empty() && (reason.back() == '\n' || reason.back() == '\r')) reason.pop_back();
  return reason.empty() ? "HTTP status " + std::to_string(response.status) : reason;
}

}  // namespace

Result<Engine> Engine::at(const std::string& address) {
  Engine engine;
  engine.address_ = address;
  if (address.starts_with(kUnixScheme)) {
    engine.unix_socket_ = address.substr(kUnixScheme.size());
    engine.base_url_ = "http://engine";
  } else if (address.starts_with(kTcpScheme) || address.starts_with("http://") || address.starts_with("https://")) {
    const bool tls = !environment("DOCKER_TLS_VERIFY").empty() || address.starts_with("https://");
    engine.base_url_ = std::string(tls ? "https" : "http") + "://" + address.substr(address.find("://") + 3);
    while (engine.base_url_.ends_with('/')) engine.base_url_.pop_back();
    if (tls) {
      engine.tls_folder_ = environment("DOCKER_CERT_PATH");
      if (engine.tls_folder_.empty()) engine.tls_folder_ = environment("HOME") + "/.docker";
    }
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

Result<Engine> Engine::find() {
  if (const auto host = environment("DOCKER_HOST"); !host.empty()) return at(host);
  std::string reasons;
  auto addresses = std::vector<std::string>{"unix:///var/run/docker.sock"};
  if (const auto folder = environment("XDG_RUNTIME_DIR"); !folder.empty()) {
    addresses.push_back("unix://" + folder + "/podman/podman.sock");
  }
  addresses.emplace_back("unix:///run/podman/podman.sock");
  for (const auto& address : addresses) {
    auto engine = at(address);
    if (engine) return engine;
    reasons += (reasons.empty() ? "" : "; ") + engine.error().message();
  }
  return fail(ErrorCode::kDockerImagePull, reasons);
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
  const auto take_line = [&] {
    if (const auto json = parse_document(line, "the engine's answer"); json) {
      if (const auto error = text_at(*json, "error"); !error.empty()) reason = error;
      auto text = text_at(*json, "stream");
      if (text.empty()) text = text_at(*json, "status");
      while (text.ends_with('\n')) text.pop_back();
      if (listener && !text.empty()) listener(text);
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
  const auto answer = http::send(request);
  if (!answer) return fail(code, "the engine at " + address_ + ": " + answer.error().message());
  if (!line.empty()) take_line();
  if (!answer->success()) reason = reason_of(*answer);
  if (!reason.empty()) return fail(code, "the engine at " + address_ + " reports: " + reason);
  return {};
}

Result<void> Engine::pull(const std::string& name, const Listener& listener) const {
  NITRO_TRY(const auto parsed, parse_image_name(name));
  auto order = request("/images/create?fromImage=" + http::url_encoded(name));
  order.method = "POST";
  NITRO_TRY(const auto credentials, stored_credentials(parsed.host));
  if (credentials) {
    const nlohmann::ordered_json login = {
        {"username", credentials->user}, {"password", credentials->password}, {"serveraddress", parsed.host}};
    auto header = to_base64(login.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    for (char& c : header) c = c == '+' ? '-' : c == '/' ? '_' : c;  // the URL's alphabet
    order.headers.push_back("X-Registry-Auth: " + header);
  }
  return listen(std::move(order), ErrorCode::kDockerImagePull, listener);
}

Result<void> Engine::build(const Extent& context, const std::string& name, const Listener& listener) const {
  auto order = request("/build?dockerfile=Dockerfile&t=" + http::url_encoded(name));
  order.method = "POST";
  order.headers.emplace_back("Content-Type: application/x-tar");
  order.upload = [&context, sent = std::uint64_t{0}](std::span<std::byte> buffer) mutable -> Result<std::size_t> {
    const auto piece =
        buffer.first(static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), context.size_bytes - sent)));
    NITRO_CHECK(context.read(sent, piece));
    sent += piece.size();
    return piece.size();
  };
  return listen(std::move(order), ErrorCode::kDockerImageBuild, listener);
}

Result<ImageSource> Engine::open(const std::string& name) const {
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
  auto source = read_docker_archive(Extent{std::make_shared<const Fd>(std::move(scratch)), 0, size}, {});
  if (!source) return fail_within(step, std::move(source).error());
  source->name = name;
  source->inspection = std::move(*inspection);
  return source;
}

}  // namespace nitro::image
