// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/client/client.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

#include "enclave_proc/machine/enclave_id.h"
#include "enclave_proc/qemu/vsock/hybrid_socket.h"
#include "enclave_proc/registry/folder_lock.h"
#include "enclave_proc/registry/published_socket.h"
#include "src/base/bytes.h"
#include "src/base/json.h"
#include "src/runtime/event_loop.h"
#include "src/runtime/unix_socket.h"

namespace nitro::proc {
namespace {

/// Whether this error means that the process is gone.
bool is_gone(const Error& error) {
  return error.system_errno() == ECONNREFUSED || error.system_errno() == ENOENT;
}

/// Whether this error means that the socket belongs to other users and is none of our concern.
bool is_of_others(const Error& error) {
  return error.system_errno() == EACCES || error.system_errno() == EPERM || error.system_errno() == EPROTOTYPE;
}

/// Removes what a killed process leaves beside its socket: the folder of a local enclave, a socket that was not yet
/// renamed.
void remove_leftovers(const SocketsFolder& folder, const std::string& name) {
  if (name.ends_with(".vsock") || name.ends_with(fmt::format(".vsock{}", kUnlockedSuffix))) {
    // A folder that cannot be removed does no harm.
    [[maybe_unused]] const auto ignored = remove_stale_local_folder(folder.path_of(name));
  } else if (is_unpublished_name(name)) {
    remove_if_stale(folder, name);
  }
}

/// One process being asked.
class Exchange {
 public:
  Exchange(EventLoop& loop, Connection connection, const std::string& request, bool expects_confirmation,
           std::function<void()> on_done)
      : loop_(loop),
        connection_(std::move(connection)),
        request_(request),
        on_done_(std::move(on_done)),
        reader_(answer_, expects_confirmation) {
    answer_.path = connection_.path;
  }

  Result<void> start() {
    if (!connection_.socket) {
      loop_.defer([this] { finish(false); });
      return {};
    }
    NITRO_CHECK(set_nonblocking(connection_.socket.get(), true));
    auto watch = loop_.watch_fd(connection_.socket.get(), EPOLLIN | EPOLLOUT, [this](std::uint32_t) { advance(); });
    if (!watch) return Failure(std::move(watch).error());
    watch_ = std::move(*watch);
    return {};
  }

  Answer take() && {
    watch_.cancel();
    return std::move(answer_);
  }

 private:
  void advance() {
    if (!send_rest()) return finish(false);
    std::array<std::byte, 65536> buffer;
    while (true) {
      const ssize_t count = ::recv(connection_.socket.get(), buffer.data(), buffer.size(), 0);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
      // A process that closes with our bytes unread resets the connection; what it sent before still counts.
      if (count <= 0) return finish((count == 0 || errno == ECONNRESET) && reader_.at_end());
      answer_.readable = reader_.take(std::span(buffer).first(static_cast<std::size_t>(count)));
      if (!answer_.readable) return finish(false);
    }
  }

  bool send_rest() {
    while (sent_ < request_.size()) {
      const ssize_t count =
          ::send(connection_.socket.get(), request_.data() + sent_, request_.size() - sent_, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
      // A process may answer and close without having read everything, so a failed send is not final: the read decides.
      sent_ = count < 0 ? request_.size() : sent_ + static_cast<std::size_t>(count);
    }
    return static_cast<bool>(loop_.update(watch_, EPOLLIN));
  }

  void finish(bool complete) {
    watch_.cancel();
    answer_.complete = complete;
    on_done_();
  }

  EventLoop& loop_;
  Connection connection_;
  const std::string& request_;
  std::function<void()> on_done_;
  EventLoop::Watch watch_;
  std::size_t sent_ = 0;
  Answer answer_;
  AnswerReader reader_;
};

}  // namespace

Result<std::vector<Connection>> connect_to_all(const std::vector<SocketsFolder>& folders) {
  std::vector<Connection> connections;
  for (const SocketsFolder& folder : folders) {
    NITRO_TRY(const auto names, folder.names());
    for (const std::string& name : names) {
      remove_leftovers(folder, name);
      if (!name.ends_with(".sock")) continue;
      auto socket = connect_to_published(folder, name);
      if (!socket && is_gone(socket.error())) {
        remove_if_stale(folder, name);
      } else if (socket || !is_of_others(socket.error())) {
        // A full queue belongs to a process that is stuck: it cannot be asked, but it is counted.
        connections.push_back({.socket = socket ? std::move(*socket) : Fd(), .path = folder.path_of(name)});
      }
    }
    remove_unused_lock_file(folder);
  }
  return connections;
}

Result<Connection> connect_to(const std::string& enclave_id, const std::vector<SocketsFolder>& folders) {
  NITRO_TRY(const std::string name, socket_name(enclave_id));
  for (const SocketsFolder& folder : folders) {
    auto socket = connect_to_published(folder, name);
    if (socket) return Connection{.socket = std::move(*socket), .path = folder.path_of(name)};
    if (!is_gone(socket.error())) return fail_within("reaching the enclave process", std::move(socket).error());
    remove_if_stale(folder, name);
  }
  return fail(ErrorCode::kSocket, fmt::format("no enclave has the ID {}", quote(enclave_id)));
}

Result<std::vector<Answer>> ask_all(std::vector<Connection> connections, const std::string& request,
                                    bool expects_confirmation, std::chrono::milliseconds timeout) {
  NITRO_TRY(const auto loop, EventLoop::create());
  std::size_t open = connections.size();
  std::vector<std::unique_ptr<Exchange>> exchanges;
  exchanges.reserve(connections.size());
  for (Connection& connection : connections) {
    exchanges.push_back(std::make_unique<Exchange>(*loop, std::move(connection), request, expects_confirmation, [&] {
      if (--open == 0) loop->stop();
    }));
    NITRO_CHECK(exchanges.back()->start());
  }
  const auto limit = loop->watch_timer(timeout, [&] { loop->stop(); });
  if (open > 0) NITRO_CHECK(loop->run());
  std::vector<Answer> answers;
  answers.reserve(exchanges.size());
  for (auto& exchange : exchanges) answers.push_back(std::move(*exchange).take());
  return answers;
}

void leave_out_ended(std::vector<Answer>& answers, const std::vector<SocketsFolder>& folders) {
  std::erase_if(answers, [&folders](const Answer& answer) {
    // A process of the reference that is about to exit may still promise to do what it was asked.
    if (answer.status.value_or(0) != 0 || !answer.standard_output.empty()) return false;
    return std::any_of(folders.begin(), folders.end(), [&answer](const SocketsFolder& folder) {
      if (!answer.path.starts_with(folder.path_of(""))) return false;
      const std::string name = answer.path.substr(folder.path_of("").size());
      const auto socket = connect_to_published(folder, name);
      if (socket || !is_gone(socket.error())) return false;
      remove_if_stale(folder, name);
      return true;
    });
  });
}

Result<std::uint64_t> ask_number(Connection connection, Command command, std::chrono::milliseconds timeout) {
  const int socket = connection.socket.get();
  NITRO_CHECK(set_timeouts(socket, timeout));
  std::array<std::byte, 8> bytes{};
  auto sent = write_all(socket, as_bytes(encode_request(command)));
  auto received = sent ? read_exact(socket, bytes) : std::move(sent);
  if (!received) {
    return fail_within(fmt::format("asking the enclave process ({})", name_of(command)),
                       std::move(received).error().as(ErrorCode::kSocket));
  }
  return load_le<std::uint64_t>(bytes);
}

namespace {

Result<Texts> ask_for_texts(const std::vector<SocketsFolder>& folders, const std::string& request) {
  NITRO_TRY(auto connections, connect_to_all(folders));
  NITRO_TRY(const auto answers, ask_all(std::move(connections), request, true, kAnswerTimeout));
  Texts said;
  for (const Answer& answer : answers) {
    // An empty answer is valid: the enclave has a different name.
    if (answer.readable && answer.standard_output.empty()) continue;
    const auto json = parse_json(answer.standard_output, ErrorCode::kSerde);
    if (answer.readable && json && json->is_string()) {
      said.texts.push_back(json->get<std::string>());
    } else {
      said.unreadable.push_back(answer.path);
    }
  }
  return said;
}

}  // namespace

Result<Texts> enclave_names(const std::vector<SocketsFolder>& folders) {
  return ask_for_texts(folders, encode_request(Command::kGetEnclaveName));
}

Result<std::string> id_of(const std::string& name, const std::vector<SocketsFolder>& folders) {
  NITRO_TRY(const Texts ids, ask_for_texts(folders, encode_request(Command::kGetIdByName, encode_name(name))));
  if (ids.texts.size() == 1) return ids.texts.front();
  std::string message =
      fmt::format("{} the name {}", ids.texts.empty() ? "no enclave has" : "more than one enclave has", quote(name));
  for (const std::string& path : ids.unreadable)
    message += fmt::format("; the reply from {} cannot be read", quote(path));
  return fail(ErrorCode::kEnclaveNaming, std::move(message));
}

}  // namespace nitro::proc
