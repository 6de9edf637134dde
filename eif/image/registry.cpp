// SPDX-License-Identifier: Apache-2.0
#include "eif/image/registry.h"

#include <algorithm>
#include <cctype>

#include "eif/image/credentials.h"
#include "eif/image/digest.h"
#include "eif/image/oci.h"
#include "nitro/bytes.h"
#include "nitro/output_file.h"

namespace nitro::image {

namespace {

constexpr int kStallSeconds = 60;
constexpr const char* kManifestTypes =
    "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

// One repository of a registry, and what it takes to be let in.
class Repository {
 public:
  explicit Repository(const ImageName& name) : name_(name) {
    host_ = name.host == "docker.io" ? "registry-1.docker.io" : name.host;
  }

  // Finds out how the registry is spoken to.
  Result<void> connect() {
    NITRO_TRY(credentials_, stored_credentials(name_.host));
    scheme_ = "https";
    auto answer = http::send(request("/v2/"));
    if (!answer && is_loopback(host_)) {
      scheme_ = "http";
      answer = http::send(request("/v2/"));
    }
    if (!answer) return Failure(std::move(answer).error());
    return {};
  }

  // The answer to a GET below the repository, after authorisation if the registry wants it. Statuses other than 2xx are
  // errors.
  Result<http::Response> get(const std::string& path, const std::vector<std::string>& headers, const ByteSink& sink) {
    auto order = request("/v2/" + name_.repository + path);
    order.headers = headers;
    order.sink = sink;
    if (!authorization_.empty()) order.headers.push_back(authorization_);
    auto answer = http::send(order);
    if (answer && answer->status == 401 && authorization_.empty()) {
      NITRO_CHECK(authorize(answer->headers["www-authenticate"]));
      order.headers.push_back(authorization_);
      answer = http::send(order);
    }
    if (!answer) return answer;
    if (!answer->success()) return fail(ErrorCode::kDockerImagePull, reason_of(*answer));
    return answer;
  }

 private:
  http::Request request(const std::string& path) const {
    http::Request request;
    request.url = scheme_ + "://" + host_ + path;
    request.follow_redirects = true;
    request.insecure_http = is_loopback(host_);
    request.stall_timeout_seconds = kStallSeconds;
    return request;
  }

  Result<void> authorize(const std::string& header) {
    const auto challenge = parse_challenge(header);
    const auto basic =
        credentials_ ? "Authorization: Basic " + to_base64(credentials_->user + ":" + credentials_->password) : "";
    if (challenge.scheme == "basic") {
      if (basic.empty())
        return fail(ErrorCode::kDockerImagePull,
                    "it asks for a login; log in with \"docker login " + name_.host + "\"");
      authorization_ = basic;
      return {};
    }
    const auto parameter = [&challenge](const char* key) {
      const auto found = challenge.parameters.find(key);
      return found == challenge.parameters.end() ? std::string() : found->second;
    };
    const auto realm = parameter("realm");
    if (challenge.scheme != "bearer" || realm.empty()) {
      return fail(ErrorCode::kDockerImagePull, "it asks for an unknown kind of login (" + quote(header) + ")");
    }
    http::Request order;
    order.url = realm + (realm.find('?') == std::string::npos ? "?" : "&") +
                "service=" + http::url_encoded(parameter("service")) +
                "&scope=" + http::url_encoded("repository:" + name_.repository + ":pull");
    // Credentials travel here, so plain HTTP is for registries on this machine only.
    order.insecure_http = is_loopback(host_);
    order.stall_timeout_seconds = kStallSeconds;
    if (!basic.empty()) order.headers.push_back(basic);
    const auto answer = http::send(order);
    if (!answer) return fail_within("asking for a token", answer.error());
    if (!answer->success()) {
      return fail(ErrorCode::kDockerImagePull,
                  std::string(basic.empty() ? "it gives no anonymous access" : "it refuses the stored login") + " (" +
                      reason_of(*answer) + ")");
    }
    auto json = parse_document(answer->body, "the answer of the token server");
    if (!json) return Failure(std::move(json).error().as(ErrorCode::kDockerImagePull));
    auto token = text_at(*json, "token");
    if (token.empty()) token = text_at(*json, "access_token");
    if (token.empty() || token.find_first_of("\r\n") != std::string::npos) {
      return fail(ErrorCode::kDockerImagePull, "the token server gives no token");
    }
    authorization_ = "Authorization: Bearer " + token;
    return {};
  }

  // {"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}
  static std::string reason_of(const http::Response& response) {
    if (const auto json = parse_document(response.body, "the registry's answer"); json) {
      if (const auto* errors = array_at(*json, "errors"); errors != nullptr && !errors->empty()) {
        const auto message = text_at(errors->front(), "message");
        if (!message.empty()) return message;
        if (const auto code = text_at(errors->front(), "code"); !code.empty()) return code;
      }
    }
    return "HTTP status " + std::to_string(response.status);
  }

  ImageName name_;
  std::string host_;
  std::string scheme_;
  std::optional<Credentials> credentials_;
  std::string authorization_;  // a header line, once we were let in
};

bool is_manifest(const Descriptor& blob) {
  return blob.media_type.find("manifest") != std::string::npos || blob.media_type.find("index") != std::string::npos;
}

Result<Extent> fetch(Repository& repository, const Descriptor& blob) {
  NITRO_TRY(Fd scratch, make_scratch_file());
  std::uint64_t size = 0;
  const ByteSink sink = [&](std::span<const std::byte> bytes) -> Result<void> {
    size += bytes.size();
    if (size > blob.size_bytes)
      return fail(ErrorCode::kEifBuilding, "it is longer than the manifest says; the image is damaged");
    return write_all(scratch.get(), bytes);
  };
  const auto path = std::string(is_manifest(blob) ? "/manifests/" : "/blobs/") + blob.digest;
  const std::vector<std::string> headers =
      is_manifest(blob) ? std::vector<std::string>{kManifestTypes} : std::vector<std::string>{};
  if (auto answer = repository.get(path, headers, sink); !answer)
    return fail_within("blob " + blob.digest, std::move(answer).error());
  if (size != blob.size_bytes) {
    return fail(ErrorCode::kEifBuilding,
                "blob " + blob.digest + " is shorter than the manifest says; the image is damaged");
  }
  return Extent{std::make_shared<const Fd>(std::move(scratch)), 0, size};
}

Result<ImageSource> open_named(const ImageName& name, const SourceOptions& options, const Engine::Listener& listener) {
  Repository repository(name);
  NITRO_CHECK(repository.connect());
  const auto wanted = name.digest.empty() ? name.tag : name.digest;
  NITRO_TRY(const auto answer, repository.get("/manifests/" + wanted, {kManifestTypes}, nullptr));
  if (!name.digest.empty() && sha256(as_bytes(answer.body)) != name.digest) {
    return fail(ErrorCode::kEifBuilding, "the manifest has another digest than the one that was asked for");
  }
  NITRO_TRY(auto document, parse_document(answer.body, "the manifest"));
  const BlobStore store = [&](const Descriptor& blob) {
    if (!is_manifest(blob) && listener) {
      listener("Fetching " + blob.digest + " (" + std::to_string(blob.size_bytes) + " bytes)");
    }
    return fetch(repository, blob);
  };
  NITRO_TRY(auto source, read_oci_image(std::move(document), store, options));
  if (!name.tag.empty()) {
    // As engines abbreviate it.
    auto tag = (name.host == "docker.io" ? "" : name.host + "/") + name.repository + ":" + name.tag;
    if (tag.starts_with("library/")) tag.erase(0, std::string_view("library/").size());
    source.repository_tags.push_back(std::move(tag));
  }
  return source;
}

}  // namespace

bool is_loopback(std::string_view host) {
  if (host.starts_with("[::1]")) return true;
  host = host.substr(0, host.find(':'));
  if (host == "localhost") return true;
  return host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string_view::npos;
}

Challenge parse_challenge(std::string_view header) {
  Challenge challenge;
  const auto blank = header.find(' ');
  challenge.scheme = header.substr(0, blank);
  std::transform(challenge.scheme.begin(), challenge.scheme.end(), challenge.scheme.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  auto rest = blank == std::string_view::npos ? std::string_view() : header.substr(blank + 1);
  while (!rest.empty()) {
    const auto start = rest.find_first_not_of(" ,");
    if (start == std::string_view::npos) break;
    rest = rest.substr(start);
    const auto equals = rest.find('=');
    if (equals == std::string_view::npos) break;
    std::string key(rest.substr(0, equals));
    rest = rest.substr(equals + 1);
    std::string value;
    if (rest.starts_with('"')) {
      std::size_t i = 1;
      for (; i < rest.size() && rest[i] != '"'; ++i) {
        if (rest[i] == '\\' && i + 1 < rest.size()) ++i;
        value += rest[i];
      }
      rest = rest.substr(std::min(rest.size(), i + 1));
    } else {
      const auto end = rest.find(',');
      value = rest.substr(0, end);
      rest = end == std::string_view::npos ? std::string_view() : rest.substr(end);
    }
    challenge.parameters[std::move(key)] = std::move(value);
  }
  return challenge;
}

Result<ImageSource> open_in_registry(const std::string& name, const SourceOptions& options,
                                     const Engine::Listener& listener) {
  NITRO_TRY(const auto parsed, parse_image_name(name));
  auto source = open_named(parsed, options, listener);
  if (!source)
    return fail_within("image " + quote(name) + " at the registry " + parsed.host, std::move(source).error());
  source->name = name;
  return source;
}

}  // namespace nitro::image
