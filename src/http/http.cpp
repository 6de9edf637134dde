// SPDX-License-Identifier: Apache-2.0
#include "nitro/http.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "nitro/bytes.h"
#include "nitro/fd.h"
#include "nitro/text.h"
#include "nitro/version.h"

namespace nitro::http {

namespace {

struct FreeHandle {
  void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct FreeUrl {
  void operator()(CURLU* url) const { curl_url_cleanup(url); }
};
struct FreeText {
  void operator()(char* text) const { curl_free(text); }
};
struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// One request on its way. libcurl's callbacks get it as their context; our own errors are kept here, as they say more
// than libcurl's.
struct Exchange {
  const Request& request;
  CURL* handle;
  Response response = {};
  bool body_begun = false;
  std::optional<Error> error = std::nullopt;
};

std::size_t on_header(char* bytes, std::size_t, std::size_t size, void* context) {
  auto& exchange = *static_cast<Exchange*>(context);
  const std::string_view line(bytes, size);
  // Another status line: of a redirect's target, or after "100 Continue". What came before is history.
  if (line.starts_with("HTTP/")) exchange.response.headers.clear();
  if (const auto colon = line.find(':'); colon != std::string_view::npos) {
    auto& value = exchange.response.headers[to_lower(line.substr(0, colon))];
    value += (value.empty() ? "" : ", ") + std::string(trimmed(line.substr(colon + 1), " \t\r\n"));
  }
  return size;
}

std::size_t on_body(char* bytes, std::size_t, std::size_t size, void* context) {
  auto& exchange = *static_cast<Exchange*>(context);
  curl_easy_getinfo(exchange.handle, CURLINFO_RESPONSE_CODE, &exchange.response.status);
  if (exchange.request.sink && exchange.response.success()) {
    if (!std::exchange(exchange.body_begun, true) && exchange.request.on_success) {
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

// Whose certificates are trusted. libcurl itself does not look at the variables that OpenSSL and Go programs follow.
Result<void> choose_authorities(CURL* curl, const Request& request) {
  if (!request.ca_file.empty()) {
    curl_easy_setopt(curl, CURLOPT_CAINFO, request.ca_file.c_str());
    curl_easy_setopt(curl, CURLOPT_CAPATH, nullptr);  // or the system's authorities would count as well
    return {};
  }
  const char* file = std::getenv("SSL_CERT_FILE");
  const char* folder = std::getenv("SSL_CERT_DIR");
  if (file != nullptr && *file != '\0') curl_easy_setopt(curl, CURLOPT_CAINFO, file);
  if (folder != nullptr && *folder != '\0') curl_easy_setopt(curl, CURLOPT_CAPATH, folder);
  if (request.more_authorities.empty()) return {};
  // A text takes the place of the file of authorities, so it has to hold those, too.
  if (file == nullptr || *file == '\0') file = curl_version_info(CURLVERSION_NOW)->cainfo;
  std::string authorities = request.more_authorities;
  if (file != nullptr && ::access(file, R_OK) == 0) {
    NITRO_TRY(const auto system, read_text_file(file));
    authorities += "\n" + system;
  }
  curl_blob blob{authorities.data(), authorities.size(), CURL_BLOB_COPY};
  curl_easy_setopt(curl, CURLOPT_CAINFO_BLOB, &blob);
  return {};
}

}  // namespace

std::optional<Peer> peer_of(const std::string& url) {
  const std::unique_ptr<CURLU, FreeUrl> parsed(curl_url());
  if (!parsed) throw std::bad_alloc();
  if (curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK) return std::nullopt;
  const auto part = [&parsed](CURLUPart which) {
    char* text = nullptr;
    curl_url_get(parsed.get(), which, &text, 0);
    const std::unique_ptr<char, FreeText> owner(text);
    return std::string(text != nullptr ? text : "");
  };
  Peer peer{part(CURLUPART_SCHEME), part(CURLUPART_HOST)};
  if (peer.host.starts_with('[') && peer.host.ends_with(']')) peer.host = peer.host.substr(1, peer.host.size() - 2);
  return peer;
}

std::string url_encoded(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '.' || c == '_' || c == '~';
    if (plain) {
      encoded += c;
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

Result<Response> send(const Request& request) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  const std::unique_ptr<CURL, FreeHandle> handle(curl_easy_init());
  if (ready != CURLE_OK || !handle) throw std::bad_alloc();
  Exchange exchange{request, handle.get()};
  CURL* const curl = handle.get();
  std::array<char, CURL_ERROR_SIZE> reason{};
  const std::string agent = "nitro-cli/" + std::string(kVersion);

  std::unique_ptr<curl_slist, FreeList> headers;
  const auto add_header = [&headers](const std::string& line) {
    auto* const longer = curl_slist_append(headers.get(), line.c_str());
    if (longer == nullptr) throw std::bad_alloc();
    (void)headers.release();
    headers.reset(longer);
  };
  // Only headers that are sent: libcurl 7.88 signs a header that is switched off ("Expect:") like any other, and AWS
  // then finds another signature.
  for (const auto& line : request.headers) add_header(line);
  if (request.upload) {
    add_header("Expect:");                     // engines need not be asked before an upload
    add_header("Transfer-Encoding: chunked");  // its size is not known before its end
  }

  curl_easy_setopt(curl, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason.data());
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, agent.c_str());
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, request.insecure_http ? "http,https" : "https");
  curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, request.insecure_http ? "http,https" : "https");
  curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, request.follow_redirects ? 1L : 0L);
  curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 10L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, static_cast<long>(request.connect_timeout_seconds));
  if (request.stall_timeout_seconds > 0) {
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(request.stall_timeout_seconds));
  }
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, static_cast<long>(request.total_timeout_seconds));
  curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 256L << 10);
  curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
  curl_easy_setopt(curl, CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &exchange);
  if (!request.unix_socket.empty()) curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, request.unix_socket.c_str());
  // Whatever http_proxy says.
  if (request.direct || !request.unix_socket.empty()) curl_easy_setopt(curl, CURLOPT_PROXY, "");
  NITRO_CHECK(choose_authorities(curl, request));
  if (!request.client_certificate_file.empty()) {
    curl_easy_setopt(curl, CURLOPT_SSLCERT, request.client_certificate_file.c_str());
    curl_easy_setopt(curl, CURLOPT_SSLKEY, request.client_key_file.c_str());
  }
  if (request.method == "POST") {
    curl_easy_setopt(curl, CURLOPT_POST, 1L);
    if (request.upload) {
      curl_easy_setopt(curl, CURLOPT_READFUNCTION, on_upload);
      curl_easy_setopt(curl, CURLOPT_READDATA, &exchange);
    } else {
      curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.c_str());
      curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    }
  } else if (request.method != "GET") {
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }
  if (const auto& aws = request.aws_signature) {
    const std::string scope = "aws:amz:" + aws->region + ":" + aws->service;
    curl_easy_setopt(curl, CURLOPT_AWS_SIGV4, scope.c_str());
    curl_easy_setopt(curl, CURLOPT_USERNAME, aws->access_key_id.c_str());
    curl_easy_setopt(curl, CURLOPT_PASSWORD, aws->secret_access_key.text().c_str());
    // A header like the others, so that it is signed with them.
    if (!aws->session_token.empty()) add_header(Secret("X-Amz-Security-Token: " + aws->session_token.text()).text());
  }
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());

  const CURLcode code = curl_easy_perform(curl);
  if (exchange.error) return Failure(*exchange.error);
  if (code != CURLE_OK) {
    return fail(request.failure, reason[0] != '\0' ? std::string(reason.data()) : curl_easy_strerror(code));
  }
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &exchange.response.status);
  return std::move(exchange.response);
}

}  // namespace nitro::http
