// SPDX-License-Identifier: Apache-2.0
#include "vsock_proxy/service/metrics_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

#include "vsock_proxy/config/address_block.h"
#include "vsock_proxy/http_connect/request_head.h"

namespace nitro::proxy {
namespace {

bool is_for_this_machine(const Endpoint& endpoint) {
  if (endpoint.kind == Endpoint::Kind::kUnix) return true;
  if (endpoint.kind != Endpoint::Kind::kTcp) return false;
  const auto address = IpAddress::parse(endpoint.host);
  return address && (AddressBlock::parse("127.0.0.0/8")->contains(*address) || *address == *IpAddress::parse("::1"));
}

constexpr mode_t kMode = 0660;

}  // namespace

/// One scraper: its request, then our answer.
class MetricsServer::Client {
 public:
  Client(MetricsServer& server, Fd socket) : server_(server), socket_(std::move(socket)) {}

  Result<void> start() {
    NITRO_TRY(watch_, server_.loop_.watch_fd(socket_.get(), EPOLLIN, [this](std::uint32_t) { advance(); }));
    limit_ = server_.loop_.watch_timer(kTime, [this] { server_.remove(*this); });
    return {};
  }

 private:
  void advance() {
    if (answer_.empty() && !read()) return;
    while (sent_ < answer_.size()) {
      const ssize_t count = ::send(socket_.get(), answer_.data() + sent_, answer_.size() - sent_, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        static_cast<void>(server_.loop_.update(watch_, EPOLLOUT));
        return;
      }
      if (count < 0) break;
      sent_ += static_cast<std::size_t>(count);
    }
    server_.remove(*this);
  }

  /// Returns whether there is something to answer; may remove this object otherwise.
  bool read() {
    std::array<std::byte, RequestHead::kMaxBytes> buffer;
    const ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (count < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) return false;
    if (count <= 0) {
      server_.remove(*this);
      return false;
    }
    switch (request_.take(std::span(buffer).first(static_cast<std::size_t>(count)))) {
      case RequestHead::State::kIncomplete:
        return false;
      case RequestHead::State::kComplete:
        break;
      case RequestHead::State::kMalformed:
      case RequestHead::State::kTooLarge:
        answer_ = http_answer("400 Bad Request", "text/plain", "not a valid request\n");
        return true;
    }
    if (!request_.is_get()) {
      answer_ = http_answer("405 Method Not Allowed", "text/plain", "only GET is served here\n");
    } else if (request_.target() != "/metrics") {
      answer_ = http_answer("404 Not Found", "text/plain", "the counters are at /metrics\n");
    } else {
      answer_ = http_answer("200 OK", "text/plain; version=0.0.4; charset=utf-8", server_.counters_.prometheus());
    }
    return true;
  }

  MetricsServer& server_;
  Fd socket_;
  EventLoop::Watch watch_;
  EventLoop::Watch limit_;
  RequestHead request_;
  std::string answer_;
  std::size_t sent_ = 0;
};

MetricsServer::MetricsServer(EventLoop& loop, const Counters& counters)
    : loop_(loop), counters_(counters), gate_(loop) {}

MetricsServer::~MetricsServer() = default;

Result<std::unique_ptr<MetricsServer>> MetricsServer::open(EventLoop& loop, const Counters& counters,
                                                           const Endpoint& endpoint) {
  if (!is_for_this_machine(endpoint)) {
    return fail(ErrorCode::kInvalidArgument,
                "metrics are served on a Unix socket or the loopback only: unix:/PATH, "
                "tcp:127.0.0.1:PORT or tcp:[::1]:PORT");
  }
  // The constructor is private: make_unique cannot reach it.
  std::unique_ptr<MetricsServer> server(new MetricsServer(loop, counters));
  NITRO_TRY(server->listener_, listen_on(endpoint, kMode));
  NITRO_CHECK(server->gate_.watch(server->listener_.socket.get(),
                                  [own = server.get()](Fd socket) { own->accept(std::move(socket)); }));
  return server;
}

void MetricsServer::accept(Fd socket) {
  clients_.push_back(std::make_unique<Client>(*this, std::move(socket)));
  if (!clients_.back()->start()) clients_.pop_back();
  if (clients_.size() >= kMaxClients) gate_.hold();
}

void MetricsServer::remove(const Client& client) {
  clients_.remove_if([&client](const auto& other) { return other.get() == &client; });
  gate_.resume();
}

}  // namespace nitro::proxy
