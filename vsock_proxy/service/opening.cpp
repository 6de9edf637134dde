// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/service/opening.h"

#include <fmt/format.h>
#include <linux/vm_sockets.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <span>

#include "src/base/bytes.h"

namespace nitro::proxy {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kEstablished = "HTTP/1.1 200 Connection established\r\n\r\n";
/// The longest answer of a local enclave to CONNECT, "OK 4294967295\n".
constexpr std::size_t kMaxLocalAnswer = 32;

bool is_out_of_descriptors(int error) {
  return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

/// Sends a short text that fits into the socket's empty buffer.
bool send_text(int socket, std::string_view text) {
  return ::send(socket, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

std::string entry_for(const std::string& host, std::uint16_t port) {
  return fmt::format("{{host: \"{}\", ports: [{}]}}", host, port);
}

}  // namespace

Opening::Opening(EventLoop& loop, Resolver& resolver, const LocalEnclave* local, std::shared_ptr<const Route> route,
                 Fd client, std::string client_name, OnDone on_done)
    : loop_(loop),
      resolver_(resolver),
      local_(local),
      route_(std::move(route)),
      client_(std::move(client)),
      client_name_(std::move(client_name)),
      on_done_(std::move(on_done)),
      begin_(Clock::now()) {}

void Opening::start() {
  if (route_->connect) return connect_to(*route_->connect);
  auto watch = loop_.watch_fd(client_.get(), EPOLLIN, [this](std::uint32_t) { read_request(); });
  if (!watch) return refuse(Refusal::kDescriptors, watch.error().message(), {});
  watch_ = std::move(*watch);
  limit_ = loop_.watch_timer(
      kRequestTime, [this] { refuse(Refusal::kRequest, "the request did not arrive in time", "408 Request Timeout"); });
}

void Opening::read_request() {
  std::array<std::byte, RequestHead::kMaxBytes> buffer;
  const ssize_t count = ::recv(client_.get(), buffer.data(), buffer.size(), 0);
  if (count < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) return;
  if (count <= 0) return refuse(Refusal::kRequest, "the client went away before its request was complete", {});
  switch (request_.take(std::span(buffer).first(static_cast<std::size_t>(count)))) {
    case RequestHead::State::kIncomplete:
      return;
    case RequestHead::State::kComplete:
      return take_request();
    case RequestHead::State::kMalformed:
      return refuse(Refusal::kRequest, "the request is not a valid CONNECT HOST:PORT", "400 Bad Request");
    case RequestHead::State::kTooLarge:
      return refuse(Refusal::kRequest, fmt::format("the request is longer than {} bytes", RequestHead::kMaxBytes),
                    "431 Request Header Fields Too Large");
  }
}

void Opening::take_request() {
  watch_.cancel();
  limit_.cancel();
  if (!request_.is_connect()) {
    return refuse(Refusal::kRequest, "only the method CONNECT is served here", "405 Method Not Allowed");
  }
  if (!route_->may_reach(request_.host(), request_.port())) {
    return refuse(Refusal::kHost,
                  fmt::format("{} port {} is not allowed; an entry {} in http_connect would allow it",
                              quote(request_.host()), request_.port(), entry_for(request_.host(), request_.port())),
                  "403 Forbidden");
  }
  begin_ = Clock::now();
  connect_to(Endpoint::of_tcp(request_.host(), request_.port()));
}

std::chrono::nanoseconds Opening::time_left() const {
  return std::max<std::chrono::nanoseconds>(begin_ + route_->connect_time - Clock::now(), std::chrono::nanoseconds(1));
}

void Opening::connect_to(const Endpoint& server) {
  server_name_ = server.text();
  switch (server.kind) {
    case Endpoint::Kind::kTcp:
      limit_ = loop_.watch_timer(time_left(), [this, server] {
        refuse(Refusal::kResolve, fmt::format("the name {} was not resolved in time", quote(server.host)),
               "504 Gateway Timeout");
      });
      query_ =
          resolver_.resolve(server.host, route_->family, [this, server](const Result<Resolver::Addresses>& addresses) {
            limit_.cancel();
            resolved(server, addresses);
          });
      return;
    case Endpoint::Kind::kVsock:
      if (local_ != nullptr) return dial(server, {SocketAddress::of_unix(local_->folder + "/connect")});
      return dial(server, {SocketAddress::of_vsock(server.cid.value_or(VMADDR_CID_HOST), server.port)});
    case Endpoint::Kind::kUnix:
      return dial(server, {SocketAddress::of_unix(server.path)});
  }
}

void Opening::resolved(const Endpoint& server, const Result<Resolver::Addresses>& addresses) {
  if (!addresses) return refuse(Refusal::kResolve, addresses.error().message(), "502 Bad Gateway");
  std::vector<SocketAddress> allowed;
  for (const IpAddress& address : *addresses) {
    if (!route_->may_reach(address)) continue;
    allowed.push_back(SocketAddress::of_tcp(address, static_cast<std::uint16_t>(server.port)));
  }
  if (allowed.empty()) {
    return refuse(Refusal::kAddress,
                  fmt::format("{} has the address {}, which is not allowed; \"addresses\" of the route would allow it",
                              quote(server.host), addresses->front().text()),
                  "403 Forbidden");
  }
  dial(server, std::move(allowed));
}

void Opening::dial(const Endpoint& server, std::vector<SocketAddress> addresses) {
  dial_.emplace(loop_, std::move(addresses), time_left(), [this, server](Result<Dial::Connected> connection) {
    if (connection) return connected(server, std::move(*connection));
    const int error = connection.error().system_errno();
    const auto reason = is_out_of_descriptors(error) ? Refusal::kDescriptors : Refusal::kConnect;
    refuse(reason, fmt::format("{} cannot be reached: {}", server.text(), connection.error().message()),
           error == ETIMEDOUT ? "504 Gateway Timeout" : "502 Bad Gateway");
  });
  dial_->start();
}

void Opening::connected(const Endpoint& server, Dial::Connected connection) {
  server_ = std::move(connection.socket);
  if (server.kind == Endpoint::Kind::kTcp) server_name_ = connection.address.text();
  if (server.kind == Endpoint::Kind::kVsock && local_ != nullptr) return ask_local_enclave(server.port);
  finish();
}

void Opening::ask_local_enclave(std::uint32_t port) {
  limit_ = loop_.watch_timer(time_left(), [this] { refuse(Refusal::kConnect, "the enclave does not answer", {}); });
  auto watch = loop_.watch_fd(server_.get(), EPOLLIN, [this](std::uint32_t) { take_local_answer(); });
  if (!watch) return refuse(Refusal::kDescriptors, watch.error().message(), {});
  watch_ = std::move(*watch);
  if (!send_text(server_.get(), fmt::format("CONNECT {}\n", port))) {
    refuse(Refusal::kConnect, "the enclave ended the connection", {});
  }
}

void Opening::take_local_answer() {
  // Byte by byte: what follows the line belongs to the connection.
  while (local_answer_.size() < kMaxLocalAnswer) {
    char byte = 0;
    const ssize_t count = ::recv(server_.get(), &byte, 1, 0);
    if (count < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (count <= 0) break;
    local_answer_ += byte;
    if (byte != '\n') continue;
    if (!local_answer_.starts_with("OK ")) break;
    watch_.cancel();
    limit_.cancel();
    return finish();
  }
  refuse(Refusal::kConnect, fmt::format("{}: the enclave refused the connection", server_name_), {});
}

void Opening::finish() {
  if (!route_->connect && !send_text(client_.get(), kEstablished)) {
    return refuse(Refusal::kRequest, "the client went away before its connection was made", {});
  }
  // The callback may destroy this object, and with it the callback.
  const OnDone on_done = std::move(on_done_);
  on_done(Opened{.client = std::move(client_),
                 .server = std::move(server_),
                 .from_client = request_.take_rest(),
                 .server_name = std::move(server_name_),
                 .connect_time = Clock::now() - begin_});
}

void Opening::refuse(Refusal reason, const std::string& why, std::string_view http_status) {
  if (!route_->connect && !http_status.empty()) {
    // The client's program shows this to its user; that it arrives is not certain.
    static_cast<void>(send_text(client_.get(), http_answer(http_status, "text/plain; charset=utf-8", why + "\n")));
    ::shutdown(client_.get(), SHUT_WR);
  } else {
    reset_on_close(client_.get());
  }
  const OnDone on_done = std::move(on_done_);
  on_done(
      tl::unexpected(Refused{.reason = reason, .message = fmt::format("{}: {}: {}", route_->name, client_name_, why)}));
}

}  // namespace nitro::proxy
