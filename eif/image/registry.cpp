// SPDX-License-Identifier: Apache-2.0
#include "eif/image/registry.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "eif/image/credentials.h"
#include "eif/image/digest.h"
#include "eif/image/oci.h"
#include "eif/image/registry_certificates.h"
#include "eif/image/token.h"
#include "src/base/bytes.h"
#include "src/base/output_file.h"
#include "src/base/text.h"

namespace nitro::image {

namespace {

constexpr int kStallSeconds = 60;
// An interrupted download is resumed; after this many attempts in a row without progress it is abandoned.
constexpr int kAttempts = 4;
constexpr auto kFirstPause = std::chrono::milliseconds(250);
constexpr auto kRefresh = std::chrono::milliseconds(150);
constexpr const char* kManifestTypes =
    "Accept: application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "
    "application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

bool may_pass(long status) {
  return status == 408 || status == 429 || status >= 500;
}

// Returns the name of a host's folder in certs.d: HOST, or HOST:PORT for a port other than that of HTTPS.
std::string folder_name(const http::Peer& peer) {
  const auto host = peer.host.find(':') == std::string::npos ? peer.host : "[" + peer.host + "]";
  return peer.port == "443" ? host : host + ":" + peer.port;
}

// One repository of a registry, and the means to access it.
class Repository {
 public:
  explicit Repository(const ImageName& name) : name_(name) {
    host_ = name.host == "docker.io" ? "registry-1.docker.io" : name.host;
  }

  // Finds out whether the registry uses HTTPS or HTTP.
  Result<void> connect(const Engine::Listener& listener) {
    NITRO_TRY(login_, stored_login(name_.host, name_.repository));
    if (!login_.problem.empty() && listener) listener(login_.problem + "; going on without a login");
    NITRO_TRY(certificates_, registry_certificates(host_, certificate_folders()));
    scheme_ = "https";
    auto answer = http::send(request("/v2/"));
    if (answer) return {};
    if (is_loopback(host_)) {
      scheme_ = "http";
      // A server that requires TLS after all answers 400.
      if (const auto plain = http::send(request("/v2/")); plain && plain->status != 400) return {};
    }
    return Failure(std::move(answer).error());
  }

  // Returns the answer to a GET below the repository, whatever its status, after authorisation if the registry requires
  // it. Replaces a token that has expired meanwhile.
  Result<http::Response> get(const std::string& path, http::Request details) {
    auto order = request("/v2/" + name_.repository + path);
    order.headers = std::move(details.headers);
    order.sink = std::move(details.sink);
    order.on_success = std::move(details.on_success);
    if (!authorization_.empty()) order.secret_headers = {authorization_};
    auto answer = http::send(order);
    if (answer && answer->status == 401) {
      NITRO_CHECK(authorize(answer->headers["www-authenticate"]));
      order.secret_headers = {authorization_};
      answer = http::send(order);
    }
    return answer;
  }

  [[nodiscard]] Error refusal(const http::Response& answer) const {
    return {ErrorCode::kDockerImagePull, registry_reason(answer) + helper_problem()};
  }

 private:
  http::Request request(const std::string& path) const {
    http::Request request;
    request.url = scheme_ + "://" + host_ + path;
    request.follow_redirects = true;
    request.insecure_http = false;
    request.stall_timeout_seconds = kStallSeconds;
    request.more_authorities = certificates_.authorities;
    request.client_certificate_file = certificates_.client_certificate_file;
    request.client_key_file = certificates_.client_key_file;
    return request;
  }

  // Returns a request to the token server at `realm`. Certificates kept for the registry are not used for another host,
  // which has its own folder, except that the registry's authorities are trusted there too, as in docker and podman:
  // whoever can impersonate the registry can name any token server anyway.
  Result<http::Request> token_request(const std::string& realm) const {
    auto request = this->request("/");
    const auto peer = http::peer_of(realm);
    if (!peer) {
      return fail(ErrorCode::kDockerImagePull, "it names " + quote(realm) + " as its token server, which is no URL");
    }
    if (peer == http::peer_of(request.url)) return request;
    NITRO_TRY(const auto certificates, registry_certificates(folder_name(*peer), certificate_folders()));
    request.more_authorities += certificates.authorities;
    request.client_certificate_file = certificates.client_certificate_file;
    request.client_key_file = certificates.client_key_file;
    return request;
  }

  [[nodiscard]] std::string helper_problem() const { return login_.problem.empty() ? "" : " (" + login_.problem + ")"; }

  Result<void> authorize(const std::string& header) {
    const auto challenges = parse_challenges(header);
    const auto offered = [&challenges](std::string_view scheme) {
      return std::find_if(challenges.begin(), challenges.end(),
                          [scheme](const Challenge& challenge) { return challenge.scheme == scheme; });
    };
    if (const auto bearer = offered("bearer"); bearer != challenges.end()) {
      NITRO_TRY(const auto base, token_request(bearer->parameter("realm")));
      auto authorization = bearer_authorization(*bearer, name_.repository, login_.credentials, base);
      if (!authorization) {
        return fail(authorization.error().code(), authorization.error().message() + helper_problem());
      }
      authorization_ = *std::move(authorization);
      return {};
    }
    if (offered("basic") == challenges.end()) {
      return fail(ErrorCode::kDockerImagePull, "it asks for an unknown kind of login (" + quote(header) + ")");
    }
    if (!login_.credentials || login_.credentials->user.empty()) {
      return fail(ErrorCode::kDockerImagePull,
                  "it asks for a login; log in with \"docker login " + name_.host + "\"" + helper_problem());
    }
    authorization_ = basic_authorization(*login_.credentials);
    return {};
  }

  ImageName name_;
  std::string host_;
  std::string scheme_;
  StoredLogin login_;
  RegistryCertificates certificates_;
  Secret authorization_;  // a header line, once authorised
};

bool is_manifest(const Descriptor& blob) {
  return blob.media_type.find("manifest") != std::string::npos || blob.media_type.find("index") != std::string::npos;
}

// A blob being downloaded into a scratch file.
class Download {
 public:
  Download(Fd scratch, const Descriptor& blob, const Engine::Listener& listener)
      : scratch_(std::move(scratch)), blob_(blob), listener_(listener) {}

  [[nodiscard]] bool complete() const { return size_bytes_ == blob_.size_bytes; }
  [[nodiscard]] std::uint64_t size_bytes() const { return size_bytes_; }
  // Whether it failed on our side, so that a retry would not help.
  [[nodiscard]] bool failed() const { return failed_; }
  void start_over() { size_bytes_ = 0; }

  // Downloads the missing bytes to the file.
  Result<http::Response> go_on(Repository& repository) {
    http::Request details;
    if (is_manifest(blob_)) details.headers.emplace_back(kManifestTypes);
    if (size_bytes_ > 0) details.headers.push_back("Range: bytes=" + std::to_string(size_bytes_) + "-");
    details.on_success = [this](const http::Response& head) -> Result<void> {
      // A server without ranges sends everything; a range with a different start is useless.
      if (head.status != 206) start_over();
      const auto range = head.headers.find("content-range");
      const auto expected = "bytes " + std::to_string(size_bytes_) + "-";
      if (head.status == 206 && (range == head.headers.end() || !range->second.starts_with(expected))) {
        start_over();
        return fail(ErrorCode::kDockerImagePull, "the registry sends another part than it was asked for");
      }
      return {};
    };
    details.sink = [this](std::span<const std::byte> bytes) { return take(bytes); };
    return repository.get(std::string(is_manifest(blob_) ? "/manifests/" : "/blobs/") + blob_.digest,
                          std::move(details));
  }

  Extent finish() && { return Extent{std::make_shared<const Fd>(std::move(scratch_)), 0, size_bytes_}; }

 private:
  Result<void> take(std::span<const std::byte> bytes) {
    failed_ = true;
    if (bytes.size() > blob_.size_bytes - size_bytes_)
      return fail(ErrorCode::kEifBuilding, "it is longer than the manifest says; the image is damaged");
    NITRO_CHECK(pwrite_all(scratch_.get(), bytes, size_bytes_));
    failed_ = false;
    size_bytes_ += bytes.size();
    if (const auto now = std::chrono::steady_clock::now();
        now - shown_ >= kRefresh && listener_ && !is_manifest(blob_)) {
      shown_ = now;
      // The first digits suffice to tell layers apart, as in the output of engines.
      listener_("Fetching " + blob_.digest.substr(blob_.digest.find(':') + 1, 12) + ": " + in_mib(size_bytes_) +
                " of " + in_mib(blob_.size_bytes) + " MiB");
    }
    return {};
  }

  Fd scratch_;
  const Descriptor& blob_;
  const Engine::Listener& listener_;
  std::uint64_t size_bytes_ = 0;
  bool failed_ = false;
  std::chrono::steady_clock::time_point shown_{};
};

Result<Extent> fetch(Repository& repository, const Descriptor& blob, const Engine::Listener& listener) {
  const auto step = "blob " + blob.digest;
  NITRO_TRY(Fd scratch, make_scratch_file());
  Download download(std::move(scratch), blob, listener);
  auto pause = kFirstPause;
  for (int attempts = 0;;) {
    const auto before = download.size_bytes();
    auto answer = download.go_on(repository);
    if (answer && answer->success() && download.complete()) return std::move(download).finish();
    if (download.failed()) return fail_within(step, std::move(answer).error());
    const bool refused = answer && !answer->success();
    if (refused && answer->status == 416) {
      download.start_over();
    } else if (refused && !may_pass(answer->status)) {
      return fail_within(step, repository.refusal(*answer));
    }
    attempts = download.size_bytes() > before ? 0 : attempts + 1;
    if (attempts == kAttempts) {
      if (!answer) return fail_within(step, std::move(answer).error());
      if (refused) return fail_within(step, repository.refusal(*answer));
      return fail(ErrorCode::kEifBuilding, step + " is shorter than the manifest says; the image is damaged");
    }
    if (attempts > 0) {
      std::this_thread::sleep_for(pause);
      pause *= 2;
    }
  }
}

// Fetches the manifest for a name; its size is not known in advance.
Result<std::string> fetch_manifest(Repository& repository, const std::string& wanted) {
  auto pause = kFirstPause;
  for (int attempts = 1;; ++attempts, pause *= 2) {
    http::Request details;
    details.headers.emplace_back(kManifestTypes);
    auto answer = repository.get("/manifests/" + wanted, std::move(details));
    if (answer && answer->success()) return std::move(answer->body);
    const bool passing = !answer || may_pass(answer->status);
    if (!passing || attempts == kAttempts) {
      if (answer) return Failure(repository.refusal(*answer));
      return Failure(std::move(answer).error());
    }
    std::this_thread::sleep_for(pause);
  }
}

Result<ImageSource> open_named(const ImageName& name, const SourceOptions& options, Budget& budget,
                               const Engine::Listener& listener) {
  Repository repository(name);
  NITRO_CHECK(repository.connect(listener));
  NITRO_TRY(const auto text, fetch_manifest(repository, name.digest.empty() ? name.tag : name.digest));
  if (!name.digest.empty() && sha256(as_bytes(text)) != name.digest) {
    return fail(ErrorCode::kEifBuilding, "the manifest has another digest than the one that was asked for");
  }
  NITRO_TRY(auto document, parse_document(text, "the manifest", budget));
  const BlobStore store = [&](const Descriptor& blob) { return fetch(repository, blob, listener); };
  NITRO_TRY(auto source, read_oci_image(std::move(document), store, options, budget));
  if (!name.tag.empty()) {
    // Abbreviated as by engines.
    auto tag = (name.host == "docker.io" ? "" : name.host + "/") + name.repository + ":" + name.tag;
    if (tag.starts_with("library/")) tag.erase(0, std::string_view("library/").size());
    source.repository_tags.push_back(std::move(tag));
  }
  return source;
}

}  // namespace

bool is_loopback(std::string_view host) {
  const auto peer = http::peer_of("https://" + std::string(host));
  return peer && http::is_loopback(peer->host);
}

Result<ImageSource> open_in_registry(const std::string& name, const SourceOptions& options, Budget& budget,
                                     const Engine::Listener& listener) {
  NITRO_TRY(const auto parsed, parse_image_name(name));
  auto source = open_named(parsed, options, budget, listener);
  if (!source)
    return fail_within("image " + quote(name) + " at the registry " + parsed.host, std::move(source).error());
  source->name = name;
  return source;
}

}  // namespace nitro::image
