// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "enclave_proc/machine/vsock_address.h"
#include "enclave_proc/qemu/console_buffer.h"
#include "enclave_proc/qemu/qemu.h"
#include "enclave_proc/qemu/qemu_probe.h"
#include "enclave_proc/qemu/vsock/hybrid_socket.h"
#include "enclave_proc/qemu/vsock/vhost_user.h"
#include "enclave_proc/qemu/vsock/virtio_vsock.h"
#include "nitro/result.h"
#include "src/base/memory_size.h"
#include "src/runtime/child.h"
#include "src/runtime/event_loop.h"

namespace nitro::proc {

/// The settings of a local enclave.
struct QemuMachineSettings {
  BootSections image;  ///< `image.fd` is the whole EIF, validated, open for reading; borrowed until start() returns
  MemorySize memory;
  unsigned cpu_count = 1;
  std::uint64_t cid = 0;
  std::string name;
  std::string enclave_id;
  std::string folder;       ///< the LocalFolder to create
  bool debug_mode = false;  ///< the console is kept and served
  QemuProbe qemu;
};

/// An enclave that runs in QEMU: the process, its vsock device, the sockets on the host side, the console. Driven by
/// the event loop of the enclave process. Everything ends with this object; QEMU also ends when this process is killed.
///
/// Many connections need many descriptors: the owner raises RLIMIT_NOFILE before start() (two per connection are
/// enough).
class QemuMachine {
 public:
  struct Events {
    /// The init of the enclave has sent its heartbeat, one byte 0xB7 to port 9000, and received it back. Called once.
    std::function<void()> on_heartbeat;
    /// QEMU has ended, for whatever reason: the guest rebooted or powered off (exited with 0), QEMU failed, or it was
    /// killed. Called once, never after the machine was destroyed. May destroy the machine.
    std::function<void(ExitStatus)> on_end;
  };

  /// Errors: kEnclaveBoot and those of the parts. QEMU may still fail afterwards: on_end is called, and stderr_tail()
  /// says why.
  static Result<std::unique_ptr<QemuMachine>> start(EventLoop& loop, const QemuMachineSettings& settings,
                                                    Events events);
  QemuMachine(const QemuMachine&) = delete;
  QemuMachine& operator=(const QemuMachine&) = delete;
  ~QemuMachine();

  /// Kills QEMU; on_end follows.
  Result<void> stop() { return qemu_->kill(); }
  [[nodiscard]] pid_t pid() const { return qemu_->pid(); }
  /// The last lines of QEMU's standard error, and the reason if the vsock device failed.
  [[nodiscard]] std::string stderr_tail() const;

  /// Adds a reader of the console besides those that connect to `<folder>/console`. Without debug mode there is no
  /// output, and the socket is closed.
  void add_console_reader(Fd socket);
  /// The last output of the guest, at most 4 KiB; empty without debug mode.
  [[nodiscard]] std::string console_tail() const { return console_ ? console_->buffer().tail(4096) : std::string(); }
  [[nodiscard]] const LocalFolder& folder() const { return folder_; }
  [[nodiscard]] const VirtioVsock& vsock() const { return *vsock_; }

 private:
  QemuMachine(EventLoop& loop, Events events) : loop_(loop), events_(std::move(events)) {}
  Result<void> start_vsock(const QemuMachineSettings& settings);
  Result<void> start_qemu(const QemuMachineSettings& settings, Fd vhost_user_socket);
  std::optional<Fd> answer_port(std::uint32_t port);
  void on_heartbeat_socket();
  void on_exit(ExitStatus status);

  EventLoop& loop_;
  Events events_;
  LocalFolder folder_;

  std::optional<ConsoleServer> console_;
  std::unique_ptr<VirtioVsock> vsock_;
  std::unique_ptr<ConnectListener> listener_;
  std::unique_ptr<VhostUserBackend> backend_;
  std::string device_failure_;

  bool heartbeat_seen_ = false;
  Fd heartbeat_;
  EventLoop::Watch heartbeat_watch_;

  std::unique_ptr<Qemu> qemu_;
};

}  // namespace nitro::proc
