// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/control_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "src/base/bytes.h"
#include "src/runtime/unix_socket.h"

namespace nitro::proc {
namespace {

bool is_owner(int socket) {
  const auto peer = peer_credentials(socket);
  return peer && (peer->uid == 0 || peer->uid == ::getuid());
}

}  // namespace

/// A session and its socket.
class ControlServer::Client {
 public:
  Client(ControlServer& server, Fd socket)
      : server_(server), socket_(std::move(socket)), session_(server.handlers_, is_owner(socket_.get())) {}

  Result<void> start() {
    auto watch = server_.loop_.watch_fd(socket_.get(), EPOLLIN, [this](std::uint32_t) { advance(); });
    if (!watch) return Failure(std::move(watch).error());
    watch_ = std::move(*watch);
    timer_ = server_.loop_.watch_timer(server_.session_limit_, [this] { server_.drop(this); });
    return {};
  }

 private:
  // Each of these may end the session and destroy this object, so nothing may follow a call of server_.drop().
  void advance() {
    if (answered_) return flush();
    std::array<std::byte, 4096> buffer;
    while (true) {
      const ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
      if (count <= 0) return server_.drop(this);
      const auto next = session_.take(std::span(buffer).first(static_cast<std::size_t>(count)));
      if (next == ControlSession::Next::kEnd) return server_.drop(this);
      if (next == ControlSession::Next::kRead) continue;
      answered_ = true;
      return flush();
    }
  }

  void flush() {
    const std::string& reply = session_.reply();
    while (sent_ < reply.size()) {
      const ssize_t count = ::send(socket_.get(), reply.data() + sent_, reply.size() - sent_, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        if (server_.loop_.update(watch_, EPOLLOUT)) return;
        break;
      }
      if (count < 0) break;
      sent_ += static_cast<std::size_t>(count);
    }
    const auto on_terminated = session_.terminated() ? server_.handlers_.on_terminated : std::function<void()>();
    server_.drop(this);
    if (on_terminated) on_terminated();
  }

  ControlServer& server_;
  Fd socket_;
  EventLoop::Watch watch_;
  EventLoop::Watch timer_;
  ControlSession session_;
  bool answered_ = false;
  std::size_t sent_ = 0;
};

ControlServer::ControlServer(EventLoop& loop, ControlHandlers handlers, std::chrono::milliseconds session_limit)
    : loop_(loop), handlers_(std::move(handlers)), session_limit_(session_limit), gate_(loop) {}

ControlServer::~ControlServer() = default;

Result<std::unique_ptr<ControlServer>> ControlServer::start(EventLoop& loop, PublishedSocket socket,
                                                            ControlHandlers handlers,
                                                            std::chrono::milliseconds session_limit) {
  std::unique_ptr<ControlServer> server(new ControlServer(loop, std::move(handlers), session_limit));
  server->listener_ = std::move(socket);
  NITRO_CHECK(
      server->gate_.watch(server->listener_.fd(), [self = server.get()](Fd client) { self->add(std::move(client)); }));
  return server;
}

void ControlServer::stop_listening() {
  gate_.close();
  listener_.withdraw();
}

void ControlServer::add(Fd socket) {
  if (clients_.size() == kMaxClients) clients_.erase(clients_.begin());
  auto client = std::make_unique<Client>(*this, std::move(socket));
  if (!client->start()) return;
  clients_.push_back(std::move(client));
}

void ControlServer::drop(const Client* client) {
  std::erase_if(clients_, [client](const auto& candidate) { return candidate.get() == client; });
}

}  // namespace nitro::proc
