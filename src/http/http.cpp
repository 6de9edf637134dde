// SPDX-License-Identifier: Apache-2.0
#include "src/http/http.h"

#include <curl/curl.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/environment.h"
#include "src/base/text.h"
#include "src/base/version.h"
#include "src/http/proxy.h"

namespace nitro::http {

namespace {

struct FreeHandle {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// One request in progress. libcurl's callbacks get it as their context; it keeps our own errors, which say more than
// libcurl's.
struct Exchange {
  const Request& request;
  CURL* handle;
  Response response = {};
  bool body_begun = false;
  std::optional<Error> error = std::nullopt;
};

// Takes the headers of the last response, without those of a proxy's answer to CONNECT and of "100 Continue".
void take_headers(Exchange& exchange) {
  curl_header* header = nullptr;
  while ((header = curl_easy_nextheader(exchange.handle, CURLH_HEADER, -1, header)) != nullptr) {
    auto& value = exchange.response.headers[to_lower(header->name)];
    value += (value.empty() ? "" : ", ") + std::string(header->value);
  }
}

std::size_t on_body(char* bytes, std::size_t, std::size_t size, void* context) {
  auto& exchange = *static_cast<Exchange*>(context);
  curl_easy_getinfo(exchange.handle, CURLINFO_RESPONSE_CODE, &exchange.response.status);
  if (exchange.request.sink && exchange.response.success()) {
    if (!std::exchange(exchange.body_begun, true) && exchange.request.on_success) {
      take_headers(exchange);
      if (auto wanted = exchange.request.on_success(exchange.response); !wanted) {
        exchange.error = std::move(wanted).error();
        return CURL_WRITEFUNC_ERROR;
      }
    }
    if (auto taken = exchange.request.sink(std::as_bytes(std::span(bytes, size))); !taken) {
      exchange.error = std::move(taken).error();
      return CURL_WRITEFUNC_ERROR;
    }
    return size;
  }
  if (exchange.response.body.size() + size > kMaxKeptBody) {
    exchange.error =
        Error(exchange.request.failure, "the answer is longer than " + std::to_string(kMaxKeptBody) + " bytes");
    return CURL_WRITEFUNC_ERROR;
  }
  exchange.response.body.append(bytes, size);
  return size;
}

std::size_t on_upload(char* bytes, std::size_t, std::size_t size, void* context) {
  auto& exchange = *static_cast<Exchange*>(context);
  auto count = exchange.request.upload(std::as_writable_bytes(std::span(bytes, size)));
  if (!count) {
    exchange.error = std::move(count).error();
    return CURL_READFUNC_ABORT;
  }
  return *count;
}

// Sets options and checks every result: an option that this libcurl was built without must never go unnoticed.
// Otherwise the request would be made differently from what was asked, for example with a secret in the clear.
class Options {
 public:
  explicit Options(CURL* handle) : handle_(handle) {}

  // `value` has the type that libcurl reads from its variadic arguments.
  template <CURLoption option, class Value>
  void set(Value value) {
    constexpr int kKind = option / CURLOPTTYPE_OBJECTPOINT * CURLOPTTYPE_OBJECTPOINT;
    static_assert(kKind == CURLOPTTYPE_LONG    ? std::is_same_v<Value, long>
                  : kKind == CURLOPTTYPE_OFF_T ? std::is_same_v<Value, curl_off_t>
                                               : std::is_pointer_v<Value> || std::is_null_pointer_v<Value>);
    if (code_ != CURLE_OK) return;
    code_ = curl_easy_setopt(handle_, option, value);
    failed_ = option;
  }

  // Fails if any option could not be set, naming the first.
  [[nodiscard]] Result<void> check(ErrorCode failure) const {
    if (code_ == CURLE_OK) return {};
    const auto* option = curl_easy_option_by_id(failed_);
    return fail(failure, std::string("libcurl ") + curl_version_info(CURLVERSION_NOW)->version + " cannot set " +
                             (option != nullptr ? option->name : "option " + std::to_string(failed_)) + " (" +
                             curl_easy_strerror(code_) + "); install a complete one, of version 7.88 or later");
  }

 private:
  CURL* handle_;
  CURLcode code_ = CURLE_OK;
  CURLoption failed_{};
};

// Header lines for libcurl.
class HeaderLines {
 public:
  explicit HeaderLines(ErrorCode failure) : failure_(failure) {}

  Result<void> add(const std::string& line) {
    // Anything after a line break would be an injected header or request.
    if (line.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) {
      const auto name = line.substr(0, line.find(':'));
      return fail(failure_, "the value of the header " + quote(name) + " contains a line break");
    }
    auto* const longer = curl_slist_append(lines_.get(), line.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    (void)lines_.release();
    lines_.reset(longer);
    return {};
  }
  [[nodiscard]] curl_slist* get() const { return lines_.get(); }

 private:
  ErrorCode failure_;
  std::unique_ptr<curl_slist, FreeList> lines_;
};

// Chooses the trusted authorities. libcurl itself ignores the variables that OpenSSL and Go programs follow.
Result<void> choose_authorities(Options& options, const Request& request) {
  if (!request.ca_file.empty()) {
    options.set<CURLOPT_CAINFO>(request.ca_file.c_str());
    options.set<CURLOPT_CAPATH>(nullptr);  // otherwise the system's authorities would count as well
    return {};
  }
  auto file = environment_variable("SSL_CERT_FILE").value_or("");
  const auto folder = environment_variable("SSL_CERT_DIR").value_or("");
  if (!file.empty()) options.set<CURLOPT_CAINFO>(file.c_str());
  if (!folder.empty()) options.set<CURLOPT_CAPATH>(folder.c_str());
  if (request.more_authorities.empty()) return {};
  // Certificates given as text replace the authorities file, so include its content.
  if (const char* usual = curl_version_info(CURLVERSION_NOW)->cainfo; file.empty() && usual != nullptr) file = usual;
  std::string authorities = request.more_authorities;
  if (!file.empty() && ::access(file.c_str(), R_OK) == 0) {
    NITRO_TRY(const auto system, read_text_file(file));
    authorities += "\n" + system;
  }
  curl_blob blob{authorities.data(), authorities.size(), CURL_BLOB_COPY};
  options.set<CURLOPT_CAINFO_BLOB>(&blob);
  return {};
}

// Chooses the proxy. libcurl's own rules for the variables differ from those of container tools.
void choose_proxy(Options& options, const std::optional<Proxy>& proxy) {
  options.set<CURLOPT_PROXY>(proxy ? proxy->url.c_str() : "");
  options.set<CURLOPT_NOPROXY>("");
  if (!proxy || proxy->user.empty()) return;
  options.set<CURLOPT_PROXYUSERNAME>(proxy->user.c_str());
  options.set<CURLOPT_PROXYPASSWORD>(proxy->password.text().c_str());
}

void choose_method(Options& options, const Request& request, Exchange& exchange) {
  if (request.method == "POST") {
    options.set<CURLOPT_POST>(1L);
    if (request.upload) {
      options.set<CURLOPT_READFUNCTION>(&on_upload);
      options.set<CURLOPT_READDATA>(&exchange);
    } else {
      const auto& body = request.secret_body.empty() ? request.body : request.secret_body.text();
      options.set<CURLOPT_POSTFIELDS>(body.c_str());
      options.set<CURLOPT_POSTFIELDSIZE_LARGE>(static_cast<curl_off_t>(body.size()));
    }
  } else if (request.method != "GET") {
    options.set<CURLOPT_CUSTOMREQUEST>(request.method.c_str());
  }
}

// An answer, and the URL it redirects to; empty if it does not.
struct Answer {
  Response response;
  std::string redirected_to;
};

Result<Answer> send_once(const Request& request) {
  const auto peer = peer_of(request.url);
  if (!peer) return fail(request.failure, quote(request.url) + " is not a URL");
  const bool through_network = request.unix_socket.empty();
  if (through_network && !request.insecure_http && peer->scheme != "https" && !is_loopback(peer->host)) {
    return fail(request.failure,
                "plain HTTP is for this machine only, not for " + quote(peer->host + ":" + peer->port));
  }
  std::optional<Proxy> proxy;
  if (through_network && !request.direct) {
    NITRO_TRY(proxy,
              proxy_for(
                  *peer, [](const char* name) { return environment_variable(name).value_or(""); }, request.failure));
  }

  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::unique_ptr<CURL, FreeHandle> handle(curl_easy_init());
  if (ready != CURLE_OK || !handle) throw std::bad_alloc();
  Exchange exchange{request, handle.get()};
  std::array<char, CURL_ERROR_SIZE> reason{};
  const std::string agent = "nitro-cli/" + std::string(kVersion);

  HeaderLines headers(request.failure);
  // Only headers that are sent: libcurl 7.88 signs a disabled header ("Expect:") like any other, and AWS then computes
  // another signature.
  for (const auto& line : request.headers) NITRO_CHECK(headers.add(line));
  for (const auto& line : request.secret_headers) NITRO_CHECK(headers.add(line.text()));
  if (request.upload) {
    NITRO_CHECK(headers.add("Expect:"));                     // no need to ask an engine before an upload
    NITRO_CHECK(headers.add("Transfer-Encoding: chunked"));  // its size is known only at its end
  }

  Options options(handle.get());
  options.set<CURLOPT_URL>(request.url.c_str());
  options.set<CURLOPT_ERRORBUFFER>(reason.data());
  options.set<CURLOPT_NOSIGNAL>(1L);
  options.set<CURLOPT_USERAGENT>(agent.c_str());
  options.set<CURLOPT_PROTOCOLS_STR>("http,https");
  options.set<CURLOPT_CONNECTTIMEOUT>(static_cast<long>(request.connect_timeout_seconds));
  if (request.stall_timeout_seconds > 0) {
    options.set<CURLOPT_LOW_SPEED_LIMIT>(1L);
    options.set<CURLOPT_LOW_SPEED_TIME>(static_cast<long>(request.stall_timeout_seconds));
  }
  options.set<CURLOPT_TIMEOUT>(static_cast<long>(request.total_timeout_seconds));
  options.set<CURLOPT_BUFFERSIZE>(256L << 10);
  options.set<CURLOPT_WRITEFUNCTION>(&on_body);
  options.set<CURLOPT_WRITEDATA>(&exchange);
  if (!through_network) options.set<CURLOPT_UNIX_SOCKET_PATH>(request.unix_socket.c_str());
  choose_proxy(options, proxy);
  NITRO_CHECK(choose_authorities(options, request));
  if (!request.client_certificate_file.empty()) {
    options.set<CURLOPT_SSLCERT>(request.client_certificate_file.c_str());
    options.set<CURLOPT_SSLKEY>(request.client_key_file.c_str());
  }
  choose_method(options, request, exchange);
  if (const auto& aws = request.aws_signature) {
    const std::string scope = "aws:amz:" + aws->region + ":" + aws->service;
    options.set<CURLOPT_AWS_SIGV4>(scope.c_str());
    options.set<CURLOPT_USERNAME>(aws->access_key_id.c_str());
    options.set<CURLOPT_PASSWORD>(aws->secret_access_key.text().c_str());
    // Sent as an ordinary header, so that the signature covers it.
    if (!aws->session_token.empty()) {
      NITRO_CHECK(headers.add(Secret("X-Amz-Security-Token: " + aws->session_token.text()).text()));
    }
  }
  options.set<CURLOPT_HTTPHEADER>(headers.get());
  NITRO_CHECK(options.check(request.failure));

  const CURLcode code = curl_easy_perform(handle.get());
  if (exchange.error) return Failure(*exchange.error);
  if (code != CURLE_OK) {
    return fail(request.failure,
                (reason[0] != '\0' ? std::string(reason.data()) : curl_easy_strerror(code)) +
                    (proxy ? " (through the proxy " + proxy->url + " of " + proxy->variable + ")" : ""));
  }
  curl_easy_getinfo(handle.get(), CURLINFO_RESPONSE_CODE, &exchange.response.status);
  exchange.response.headers.clear();
  take_headers(exchange);
  const char* target = nullptr;
  curl_easy_getinfo(handle.get(), CURLINFO_REDIRECT_URL, &target);
  return Answer{std::move(exchange.response), target != nullptr ? target : ""};
}

// Returns the request to the redirect target, or nullopt if the answer is final.
std::optional<Request> redirected(const Request& request, const Answer& answer) {
  const auto status = answer.response.status;
  const bool again = status == 307 || status == 308;
  const bool another_place = again || status == 301 || status == 302 || status == 303;
  if (!request.follow_redirects || !another_place || answer.redirected_to.empty()) return std::nullopt;
  const bool same_peer = peer_of(request.url) == peer_of(answer.redirected_to);
  if (request.method != "GET" && !(again && same_peer && !request.upload)) return std::nullopt;
  auto next = request;
  next.url = answer.redirected_to;
  if (!same_peer) {
    next.secret_headers.clear();
    next.client_certificate_file.clear();
    next.client_key_file.clear();
    next.aws_signature.reset();
  }
  return next;
}

}  // namespace

Result<Response> send(const Request& request) {
  constexpr int kMaxRedirects = 10;
  NITRO_TRY(auto answer, send_once(request));
  auto next = redirected(request, answer);
  for (int redirects = 1; next; ++redirects) {
    if (redirects > kMaxRedirects) return fail(request.failure, "it redirects without end");
    NITRO_TRY(answer, send_once(*next));
    next = redirected(*next, answer);
  }
  return std::move(answer.response);
}

}  // namespace nitro::http
