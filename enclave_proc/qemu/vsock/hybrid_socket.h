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

/// The folder that holds one local enclave's sockets: `connect`, `port_<P>` of host programs, `console`. Mode 0700;
/// removed with its contents on destruction.
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

  /// Errors: kFileOperation when the folder exists or cannot be created; kSocket when its path is too long for the
  /// names of sockets in it.
  static Result<LocalFolder> create(std::string path);

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string connect_path() const { return path_ + "/connect"; }
  [[nodiscard]] std::string console_path() const { return path_ + "/console"; }

 private:
  LocalFolder(std::string path, Fd lock) : path_(std::move(path)), lock_(std::move(lock)) {}
  std::string path_;
  Fd lock_;  // of the folder, with flock(2): shows others that its process is alive
};

/// Suffix of the folder's name until it is locked; it is then renamed, so that nobody ever sees an unlocked one.
inline constexpr std::string_view kUnlockedSuffix = ".new";

/// Removes the folder that a killed enclave process left behind. Leaves alone a folder that a process holds, and
/// anything that is not a folder of the calling user. A missing folder is not an error. Errors: kFileOperation.
Result<void> remove_stale_local_folder(const std::string& path);

/// Whether this kernel connects AF_VSOCK sockets of one machine with each other (vsock_loopback). Tests this by binding
/// to CID 1: without loopback, a connection would leave through the hypervisor of this machine.
[[nodiscard]] bool kernel_has_vsock_loopback();

/// Routes the guest's connections to the host, by port: to the hook; to the Unix socket `port_<P>` of the folder; to
/// CID 1 of AF_VSOCK if the kernel has loopback; otherwise nowhere.
class HostPorts {
 public:
  /// Answers a connection itself by returning one end of a connected stream socket, or nullopt for a port that is not
  /// its own.
  using Hook = std::function<std::optional<Fd>(std::uint32_t port)>;

  HostPorts(std::string folder, bool vsock_loopback, Hook hook)
      : folder_(std::move(folder)), vsock_loopback_(vsock_loopback), hook_(std::move(hook)) {}

  [[nodiscard]] VirtioVsock::DialResult dial(std::uint32_t port) const;

 private:
  std::string folder_;
  bool vsock_loopback_;
  Hook hook_;
};

/// Parses a line "CONNECT <port>", without its newline: decimal digits, at most 4294967294 (4294967295 is
/// VMADDR_PORT_ANY of linux/vm_sockets.h).
[[nodiscard]] std::optional<std::uint32_t> parse_connect_line(std::string_view line);

/// The socket `connect`: a host program writes "CONNECT <port>\n", reads "OK <host port>\n" once the guest has
/// accepted, and then talks to the guest's program. Otherwise the connection is closed without a reply. The number of
/// clients with an unfinished line, and their time, is limited. Driven by the event loop.
class ConnectListener {
 public:
  static constexpr std::size_t kMaxHandshakes = 64;
  static constexpr std::size_t kMaxLine = 32;  ///< bytes, including the newline
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
