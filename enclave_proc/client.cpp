// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/client.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

#include "enclave_proc/enclave_id.h"
#include "enclave_proc/local/hybrid_socket.h"
#include "nitro/bytes.h"
#include "nitro/event_loop.h"
#include "nitro/json.h"
#include "nitro/unix_socket.h"

namespace nitro::proc {
namespace {

Result<std::vector<std::string>> entries_of(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(folder.c_str()), ::closedir);
  if (directory == nullptr)
    return fail_errno(ErrorCode::kReadFromDisk, fmt::format("reading the sockets folder {}", quote(folder)));
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(directory.get())) names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  return names;
}

/// Whether nobody listens at this socket any more; then it is removed.
bool remove_if_stale(const std::string& path, const Error& error) {
  if (error.system_errno() == ECONNREFUSED) ::unlink(path.c_str());
  return error.system_errno() == ECONNREFUSED || error.system_errno() == ENOENT;
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
      // A process that closes with our bytes unread resets the connection; what it said before counts.
      if (count <= 0) return finish((count == 0 || errno == ECONNRESET) && reader_.at_end());
      if (!reader_.take(std::span(buffer).first(static_cast<std::size_t>(count)))) return finish(false);
    }
  }

  bool send_rest() {
    while (sent_ < request_.size()) {
      const ssize_t count =
          ::send(connection_.socket.get(), request_.data() + sent_, request_.size() - sent_, MSG_NOSIGNAL);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
      // A process may answer and close without having read everything, so a failure to send is not the end: reading
      // tells.
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

Result<std::vector<Connection>> connect_to_all(const std::vector<std::string>& folders) {
  std::vector<Connection> connections;
  for (const std::string& folder : folders) {
    NITRO_TRY(const auto names, entries_of(folder));
    for (const std::string& name : names) {
      const std::string path = folder + "/" + name;
      if (name.ends_with(".vsock") || name.ends_with(fmt::format(".vsock{}", kUnlockedSuffix))) {
        // A folder that cannot be removed is in nobody's way.
        [[maybe_unused]] const auto ignored = remove_stale_local_folder(path);
      }
      if (!name.ends_with(".sock")) continue;
      auto socket = connect_unix(path, Wait::kNo);
      if (socket || socket.error().system_errno() == EAGAIN) {
        // A queue that is full belongs to a process that is stuck: it is asked in vain, and counted.
        if (!socket) socket = Fd();
        connections.push_back({.socket = std::move(*socket), .path = path});
      } else {
        // The process is gone and could not remove its socket, or this user may not connect.
        remove_if_stale(path, socket.error());
      }
    }
  }
  return connections;
}

Result<Connection> connect_to(const std::string& enclave_id, const std::vector<std::string>& folders) {
  NITRO_TRY(const std::string name, socket_name(enclave_id));
  for (const std::string& folder : folders) {
    std::string path = folder + "/" + name;
    auto socket = connect_unix(path);
    if (socket) return Connection{.socket = std::move(*socket), .path = std::move(path)};
    remove_if_stale(path, socket.error());
    if (socket.error().system_errno() == EACCES)
      return fail_within("reaching the enclave process", std::move(socket).error());
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

void leave_out_ended(std::vector<Answer>& answers) {
  std::erase_if(answers, [](const Answer& answer) {
    // A process of the reference that is about to end may still say that it will do what it is asked.
    if (answer.status.value_or(0) != 0 || !answer.standard_output.empty()) return false;
    const auto socket = connect_unix(answer.path, Wait::kNo);
    return !socket && remove_if_stale(answer.path, socket.error());
  });
}

Result<std::uint64_t> ask_number(Connection connection, Command command) {
  const int socket = connection.socket.get();
  NITRO_CHECK(set_timeouts(socket, kAnswerTimeout));
  std::array<std::byte, 8> bytes{};
  auto sent = write_all(socket, as_bytes(encode_request(command)));
  auto received = sent ? read_exact(socket, bytes) : std::move(sent);
  if (!received) {
    return fail_within(fmt::format("asking the enclave process ({})", name_of(command)),
                       std::move(received).error().as(ErrorCode::kSocket));
  }
  return load_le<std::uint64_t>(bytes);
}

Result<std::vector<std::string>> enclave_names(const std::vector<std::string>& folders) {
  NITRO_TRY(auto connections, connect_to_all(folders));
  const std::string request = encode_request(Command::kGetEnclaveName);
  NITRO_TRY(const auto answers, ask_all(std::move(connections), request, true, kAnswerTimeout));
  std::vector<std::string> names;
  for (const Answer& answer : answers) {
    const auto json = parse_json(answer.standard_output, ErrorCode::kSerde);
    if (json && json->is_string()) names.push_back(json->get<std::string>());
  }
  return names;
}

Result<std::string> id_of(const std::string& name, const std::vector<std::string>& folders) {
  NITRO_TRY(auto connections, connect_to_all(folders));
  const std::string request = encode_request(Command::kGetIdByName, encode_name(name));
  NITRO_TRY(const auto answers, ask_all(std::move(connections), request, true, kAnswerTimeout));
  std::vector<std::string> ids;
  for (const Answer& answer : answers) {
    const auto json = parse_json(answer.standard_output, ErrorCode::kSerde);
    if (json && json->is_string()) ids.push_back(json->get<std::string>());
  }
  if (ids.size() == 1) return ids.front();
  const std::string_view how_many = ids.empty() ? "no enclave has" : "more than one enclave has";
  return fail(ErrorCode::kEnclaveNaming, fmt::format("{} the name {}", how_many, quote(name)));
}

}  // namespace nitro::proc
