// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/hybrid_socket.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

// After sys/socket.h, whose types it uses.
#include <linux/vm_sockets.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "src/base/bytes.h"
#include "src/runtime/vsock_socket.h"

namespace nitro::proc {
namespace {

using Status = VirtioVsock::DialResult::Status;

/// Whether socket(2) failed for lack of resources that other connections may free.
bool no_socket_now() {
  return errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
}

VirtioVsock::DialResult dial_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return {};
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return {no_socket_now() ? Status::kBusy : Status::kRefused, Fd()};
  // connect(2) is declared for sockaddr, the common header of all addresses.
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) {
    return {Status::kConnected, std::move(socket)};
  }
  // unix(7): a full backlog is EAGAIN, and nothing reports when it has room again.
  if (errno == EAGAIN) return {Status::kBusy, Fd()};
  return {};
}

VirtioVsock::DialResult dial_loopback(std::uint32_t port) {
  Fd socket = vsock_socket(SOCK_NONBLOCK);
  if (!socket) return {no_socket_now() ? Status::kBusy : Status::kRefused, Fd()};
  if (connect_to(socket, vsock_address(VMADDR_CID_LOCAL, port)) == 0) return {Status::kConnected, std::move(socket)};
  if (errno == EINPROGRESS) return {Status::kConnecting, std::move(socket)};
  return {};
}

}  // namespace

LocalFolder::~LocalFolder() {
  if (path_.empty()) return;
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Result<LocalFolder> LocalFolder::create(std::string path) {
  // Programs could not listen for the enclave under a longer path (unix(7): sun_path, with its final zero byte).
  constexpr std::size_t kLongestPath = sizeof(sockaddr_un::sun_path) - 1 - std::string_view("/port_4294967294").size();
  if (path.size() > kLongestPath) {
    return fail(ErrorCode::kSocket, fmt::format("the path {} is too long for sockets in it: {} bytes, at most {}",
                                                quote(path), path.size(), kLongestPath));
  }
  const std::string unlocked = fmt::format("{}{}", path, kUnlockedSuffix);
  if (::mkdir(unlocked.c_str(), 0700) != 0) {
    return fail_errno(ErrorCode::kFileOperation, fmt::format("creating the folder {}", quote(unlocked)));
  }
  Fd lock(::open(unlocked.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  // Renaming onto an empty folder would replace it, so check first: no other process creates this name at the same
  // time.
  const bool taken = ::access(path.c_str(), F_OK) == 0;
  if (taken) errno = EEXIST;
  if (taken || !lock || ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0 || ::rename(unlocked.c_str(), path.c_str()) != 0) {
    const int error = errno;
    ::rmdir(unlocked.c_str());
    return fail_errno(ErrorCode::kFileOperation, fmt::format("creating the folder {}", quote(path)), error);
  }
  return LocalFolder(std::move(path), std::move(lock));
}

Result<void> remove_stale_local_folder(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno(ErrorCode::kFileOperation, fmt::format("looking at {}", quote(path)));
  }
  if (!S_ISDIR(status.st_mode)) return fail(ErrorCode::kFileOperation, fmt::format("{} is not a folder", quote(path)));
  if (status.st_uid != ::geteuid()) {
    return fail(ErrorCode::kFileOperation, fmt::format("{} belongs to another user", quote(path)));
  }
  const Fd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  const bool held = !folder || ::flock(folder.get(), LOCK_EX | LOCK_NB) != 0;
  // A folder that is being created is not locked yet.
  const bool new_born = path.ends_with(kUnlockedSuffix) && std::time(nullptr) - status.st_mtime < 60;
  if (held || new_born) {
    return fail(ErrorCode::kFileOperation, fmt::format("{} belongs to a running enclave", quote(path)));
  }
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (error) {
    return fail_errno(ErrorCode::kFileOperation, fmt::format("removing {}", quote(path)), error.value());
  }
  return {};
}

bool kernel_has_vsock_loopback() {
  const Fd socket = vsock_socket();
  return socket && bind_to(socket, vsock_address(VMADDR_CID_LOCAL, VMADDR_PORT_ANY)) == 0;
}

VirtioVsock::DialResult HostPorts::dial(std::uint32_t port) const {
  if (hook_) {
    if (std::optional<Fd> answered = hook_(port)) {
      if (!set_nonblocking(answered->get(), true)) return {};
      return {Status::kConnected, std::move(*answered)};
    }
  }
  VirtioVsock::DialResult result = dial_unix(fmt::format("{}/port_{}", folder_, port));
  if (result.status == Status::kRefused && vsock_loopback_) return dial_loopback(port);
  return result;
}

std::optional<std::uint32_t> parse_connect_line(std::string_view line) {
  constexpr std::string_view kCommand = "CONNECT ";
  if (!line.starts_with(kCommand)) return std::nullopt;
  line.remove_prefix(kCommand.size());
  std::uint32_t port = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), port);
  if (error != std::errc() || end != line.data() + line.size() || port == VMADDR_PORT_ANY) return std::nullopt;
  return port;
}

Result<std::unique_ptr<ConnectListener>> ConnectListener::start(EventLoop& loop, const std::string& path,
                                                                VirtioVsock& device,
                                                                std::chrono::milliseconds handshake_limit) {
  // The constructor is private: make_unique cannot reach it.
  std::unique_ptr<ConnectListener> listener(new ConnectListener(loop, device, handshake_limit));
  NITRO_CHECK(listener->gate_.open(path, 0600, [self = listener.get()](Fd socket) { self->add(std::move(socket)); }));
  return listener;
}

void ConnectListener::add(Fd socket) {
  const auto client = clients_.emplace(clients_.end());
  client->socket = std::move(socket);
  auto watch = loop_.watch_fd(client->socket.get(), EPOLLIN, [this, client](std::uint32_t) { on_client(client); });
  if (!watch) {
    clients_.erase(client);
    return;
  }
  client->watch = std::move(*watch);
  client->timer = loop_.watch_timer(handshake_limit_, [this, client] { drop(client); });
  // Further clients wait in the backlog until one of these has finished.
  if (clients_.size() >= kMaxHandshakes) gate_.hold();
}

void ConnectListener::on_client(Clients::iterator client) {
  // The client may write more after its line: take no byte beyond the line.
  std::array<char, kMaxLine> bytes;
  const ssize_t peeked =
      ::recv(client->socket.get(), bytes.data(), kMaxLine - client->line.size(), MSG_PEEK | MSG_DONTWAIT);
  if (peeked < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (peeked <= 0) return drop(client);
  const std::string_view seen(bytes.data(), static_cast<std::size_t>(peeked));
  const std::size_t newline = seen.find('\n');
  const std::size_t ours = newline == std::string_view::npos ? seen.size() : newline + 1;
  if (::recv(client->socket.get(), bytes.data(), ours, MSG_DONTWAIT) != static_cast<ssize_t>(ours)) return drop(client);
  client->line.append(seen.substr(0, ours));

  if (newline == std::string_view::npos) {
    if (client->line.size() >= kMaxLine) drop(client);
    return;
  }
  client->line.pop_back();
  const auto port = parse_connect_line(client->line);
  if (!port) return drop(client);
  client->watch.cancel();
  Fd socket = std::move(client->socket);
  drop(client);
  device_.connect(std::move(socket), *port, [](int connected, std::uint32_t host_port) {
    const std::string answer = fmt::format("OK {}\n", host_port);
    return ::send(connected, answer.data(), answer.size(), MSG_DONTWAIT | MSG_NOSIGNAL) ==
           static_cast<ssize_t>(answer.size());
  });
}

void ConnectListener::drop(Clients::iterator client) {
  clients_.erase(client);
  gate_.resume();
}

}  // namespace nitro::proc
