// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "enclave_proc/qemu/vsock/virtio_vsock.h"
#include "nitro/fd.h"
#include "nitro/result.h"
#include "src/runtime/accept_gate.h"
#include "src/runtime/event_loop.h"

namespace nitro::proc {

/// The folder in which one local enclave's sockets are: `connect`, `port_<P>` of host programs, `console`. Mode 0700;
/// removed with all that is in it on destruction.
class LocalFolder {
 public:
  LocalFolder() = default;
  LocalFolder(LocalFolder&& other) noexcept : path_(std::exchange(other.path_, {})), lock_(std::move(other.lock_)) {}
  LocalFolder& operator=(LocalFolder other) noexcept {
    std::swap(path_, other.path_);
    std::swap(lock_, other.lock_);
    return *this;
  }
  ~LocalFolder();

  /// Errors: kFileOperation when the folder exists or cannot be made; kSocket when its path is too long for the names
  /// of sockets in it.
  static Result<LocalFolder> create(std::string path);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string connect_path() const { return path_ + "/connect"; }
  [[nodiscard]] std::string console_path() const { return path_ + "/console"; }

 private:
  LocalFolder(std::string path, Fd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  std::string path_;
  Fd lock_;  // of the folder, with flock(2): tells others that its process lives
};

/// What the folder is called until it is locked; it is then renamed, so that nobody ever sees one that is not.
inline constexpr std::string_view kUnlockedSuffix = ".new";

/// Removes the folder that an enclave process left behind when it was killed. Nothing happens to a folder that a
/// process holds, or to what is not a folder of the calling user. A folder that does not exist is no error. Errors:
/// kFileOperation.
Result<void> remove_stale_local_folder(const std::string& path);

/// Whether this kernel connects AF_VSOCK sockets of one machine with each other (vsock_loopback). Found out by binding
/// to CID 1: connecting would leave through the hypervisor of this machine where there is no loopback.
[[nodiscard]] bool kernel_has_vsock_loopback();

/// Where the guest's connections to the host go, port by port: to the hook; to the Unix socket `port_<P>` of the
/// folder; to CID 1 of AF_VSOCK when the kernel has the loopback; to nobody.
class HostPorts {
 public:
  /// Answers a connection itself by returning one end of a connected stream socket; nothing: somebody else's port.
  using Hook = std::function<std::optional<Fd>(std::uint32_t port)>;

  HostPorts(std::string folder, bool vsock_loopback, Hook hook)
      : folder_(std::move(folder)), vsock_loopback_(vsock_loopback), hook_(std::move(hook)) {}

  [[nodiscard]] VirtioVsock::DialResult dial(std::uint32_t port) const;

 private:
  std::string folder_;
  bool vsock_loopback_;
  Hook hook_;
};

/// The port of a line "CONNECT <port>", without its newline: decimal digits, at most 4294967294 (4294967295 is
/// VMADDR_PORT_ANY of linux/vm_sockets.h).
[[nodiscard]] std::optional<std::uint32_t> parse_connect_line(std::string_view line);

/// The socket `connect`: a host program writes "CONNECT <port>\n", reads "OK <host port>\n" once the guest has
/// accepted, and then talks to the guest's program. In every other case the connection is closed without a word.
/// Clients that have not finished their line yet are few and have little time. Driven by the event loop.
class ConnectListener {
 public:
  static constexpr std::size_t kMaxHandshakes = 64;
  static constexpr std::size_t kMaxLine = 32;  ///< bytes, with the newline
  static constexpr std::chrono::seconds kHandshakeTimeout{5};

  /// `device` and `loop` must outlive the listener. Errors: kSocket, kEpoll.
  static Result<std::unique_ptr<ConnectListener>> start(EventLoop& loop, const std::string& path, VirtioVsock& device,
                                                        std::chrono::milliseconds handshake_limit = kHandshakeTimeout);
  ConnectListener(const ConnectListener&) = delete;
  ConnectListener& operator=(const ConnectListener&) = delete;
  ~ConnectListener() = default;

 private:
  struct Client {
    Fd socket;
    std::string line;
    EventLoop::Watch watch;
    EventLoop::Watch timer;
  };
  using Clients = std::list<Client>;

  ConnectListener(EventLoop& loop, VirtioVsock& device, std::chrono::milliseconds handshake_limit)
      : loop_(loop), device_(device), handshake_limit_(handshake_limit), gate_(loop) {}
  void add(Fd socket);
  void on_client(Clients::iterator client);
  void drop(Clients::iterator client);

  EventLoop& loop_;
  VirtioVsock& device_;
  std::chrono::milliseconds handshake_limit_;
  AcceptGate gate_;
  Clients clients_;
};

}  // namespace nitro::proc
