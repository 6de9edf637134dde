// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/control_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "nitro/bytes.h"

namespace nitro::proc {
namespace {

using Clock = std::chrono::steady_clock;

constexpr unsigned kSocketMode = 0766;
constexpr std::chrono::milliseconds kAcceptPause(100);

bool changes_something(Command command) {
  switch (command) {
    case Command::kDescribe:
    case Command::kGetEnclaveCid:
    case Command::kGetEnclaveFlags:
    case Command::kGetEnclaveName:
    case Command::kGetIdByName:
      return false;
    default:
      return true;
  }
}

bool has_arguments(Command command) {
  return command == Command::kDescribe || command == Command::kGetIdByName;
}

std::string json_string(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace

/// One visit: a command, its arguments, the replies.
class ControlServer::Client {
 public:
  Client(ControlServer& server, Fd socket) : server_(server), socket_(std::move(socket)) {}

  Result<void> start() {
    auto watch = server_.loop_.watch_fd(socket_.get(), EPOLLIN, [this](std::uint32_t) { advance(); });
    if (!watch) return Failure(std::move(watch).error());
    watch_ = std::move(*watch);
    return {};
  }

  [[nodiscard]] bool overdue(Clock::time_point now) const { return now - arrived_ > kVisitLimit; }

 private:
  // Each of these may end the visit and with it this object: nothing follows a call of server_.drop().
  void advance() {
    if (answered_) return flush();
    std::array<std::byte, 4096> buffer;
    while (true) {
      const ssize_t count = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
      if (count <= 0) return server_.drop(this);
      reader_.append(std::span(buffer).first(static_cast<std::size_t>(count)));
      while (!answered_) {
        auto message = reader_.next_message();
        if (!message) return server_.drop(this);
        if (!message->has_value()) break;
        if (!take(**message)) return server_.drop(this);
      }
      if (answered_) return flush();
    }
  }

  /// False ends the visit.
  bool take(const std::vector<std::byte>& message) {
    ++messages_;
    if (messages_ <= 2) {
      const auto command = decode_command(message);
      if (!command || (messages_ == 2 && *command != command_)) return false;
      command_ = *command;
    }
    if (messages_ == (has_arguments(command_) ? 3 : 2)) return answer(message);
    return true;
  }

  bool answer(const std::vector<std::byte>& arguments) {
    const ControlHandlers& handlers = server_.handlers_;
    const auto peer = peer_credentials(socket_.get());
    const bool owner = peer && (peer->uid == 0 || peer->uid == ::getuid());
    answered_ = true;
    if (changes_something(command_) && !owner) {
      send(StdErrMessage{"Only root and the user who started the enclave may do this.\n"});
      send(StatusReply{EACCES});
      return true;
    }
    switch (command_) {
      case Command::kRun:
        send(StatusReply{EEXIST});
        return true;
      case Command::kTerminate:
        terminating_ = true;
        for (const Reply& reply : handlers.terminate()) send(reply);
        return true;
      case Command::kDescribe: {
        const auto with_metadata = decode_describe_arguments(arguments);
        if (!with_metadata) return false;
        out_ += encode_number(kConfirmation);
        send(StdOutMessage{handlers.describe(*with_metadata) + "\n"});
        send(StatusReply{0});
        return true;
      }
      case Command::kGetEnclaveCid:
        out_ += encode_number(handlers.enclave_cid);
        return true;
      case Command::kGetEnclaveFlags:
        out_ += encode_number(handlers.enclave_flags);
        return true;
      case Command::kGetEnclaveName:
        out_ += encode_number(kConfirmation);
        send(StdOutMessage{json_string(handlers.enclave_name)});
        send(StatusReply{0});
        return true;
      case Command::kGetIdByName: {
        const auto name = decode_name(arguments);
        if (!name) return false;
        out_ += encode_number(kConfirmation);
        if (*name == handlers.enclave_name) send(StdOutMessage{json_string(handlers.enclave_id)});
        send(StatusReply{0});
        return true;
      }
      case Command::kTerminateComplete:
      case Command::kConnectionListenerStop:
      case Command::kNotPermitted:
        // The process says these to itself only.
        return false;
    }
    return false;
  }

  void send(const Reply& reply) { out_ += encode(reply); }

  void flush() {
    while (sent_ < out_.size()) {
      const ssize_t count = ::send(socket_.get(), out_.data() + sent_, out_.size() - sent_, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        if (server_.loop_.update(watch_, EPOLLOUT)) return;
        break;
      }
      if (count < 0) break;
      sent_ += static_cast<std::size_t>(count);
    }
    const auto on_terminated = terminating_ ? server_.handlers_.on_terminated : std::function<void()>();
    server_.drop(this);
    if (on_terminated) on_terminated();
  }

  ControlServer& server_;
  Fd socket_;
  EventLoop::Watch watch_;
  Clock::time_point arrived_ = Clock::now();
  MessageReader reader_{kMaxRequestBytes};
  int messages_ = 0;
  Command command_ = Command::kNotPermitted;
  bool answered_ = false;
  bool terminating_ = false;
  std::string out_;
  std::size_t sent_ = 0;
};

ControlServer::ControlServer(EventLoop& loop, ControlHandlers handlers) : loop_(loop), handlers_(std::move(handlers)) {}

ControlServer::~ControlServer() = default;

Result<std::unique_ptr<ControlServer>> ControlServer::start(EventLoop& loop, const std::string& path,
                                                            ControlHandlers handlers) {
  std::unique_ptr<ControlServer> server(new ControlServer(loop, std::move(handlers)));
  NITRO_TRY(server->listener_, listen_unix(path, kSocketMode));
  server->watch_listener();
  if (!server->accept_watch_.active()) return fail(ErrorCode::kEpoll, "watching the socket for commands");
  return server;
}

void ControlServer::watch_listener() {
  auto watch = loop_.watch_fd(listener_.fd.get(), EPOLLIN, [this](std::uint32_t) { accept_all(); });
  if (watch) accept_watch_ = std::move(*watch);
}

void ControlServer::stop_listening() {
  accept_watch_.cancel();
  accept_pause_.cancel();
  listener_ = UnixListener();
}

void ControlServer::accept_all() {
  while (listener_.fd) {
    auto socket = accept_unix(listener_.fd.get());
    if (!socket) {
      // No descriptors left, most likely. The client stays in the queue; without a pause this would be a busy loop.
      accept_watch_.cancel();
      auto pause = loop_.watch_timer(kAcceptPause, [this] { watch_listener(); });
      if (pause) accept_pause_ = std::move(*pause);
      return;
    }
    if (!socket->valid()) return;
    if (clients_.size() == kMaxClients) clients_.erase(clients_.begin());
    auto client = std::make_unique<Client>(*this, std::move(*socket));
    if (!client->start()) continue;
    clients_.push_back(std::move(client));
    if (sweep_timer_.active()) continue;
    auto timer = loop_.watch_timer(
        kVisitLimit,
        [this] {
          std::erase_if(clients_, [now = Clock::now()](const auto& visitor) { return visitor->overdue(now); });
          if (clients_.empty()) sweep_timer_.cancel();
        },
        true);
    if (timer) sweep_timer_ = std::move(*timer);
  }
}

void ControlServer::drop(const Client* client) {
  std::erase_if(clients_, [client](const auto& candidate) { return candidate.get() == client; });
}

}  // namespace nitro::proc
