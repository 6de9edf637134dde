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

/// What a local enclave is made of.
struct QemuMachineSettings {
  BootSections image;  ///< `image.fd` is the whole EIF, validated, open for reading; borrowed for the call of start()
  MemorySize memory;
  unsigned cpu_count = 1;
  std::uint64_t cid = 0;
  std::string name;
  std::string enclave_id;
  std::string folder;       ///< the LocalFolder to make
  bool debug_mode = false;  ///< the console is kept and served
  QemuProbe qemu;
};

/// An enclave that runs in QEMU: the process, its vsock device, the sockets on the host side, the console. Driven by
/// the event loop of the enclave process; everything ends with this object, and QEMU also when this process is killed.
///
/// Many connections need many descriptors: the owner raises RLIMIT_NOFILE before start() (two a connection are enough).
class QemuMachine {
 public:
  struct Events {
    /// The init of the enclave has said hello: one byte, 0xB7, to port 9000, and has got it back. Once.
    std::function<void()> on_heartbeat;
    /// QEMU has ended, for whatever reason: the guest rebooted or powered off (exited with 0), QEMU failed, or it was
    /// killed. Once, never after the machine was destroyed. The machine may be destroyed in it.
    std::function<void(ExitStatus)> on_end;
  };

  /// Errors: kEnclaveBoot and those of the parts. QEMU may still fail after this: on_end with stderr_tail().
  static Result<std::unique_ptr<QemuMachine>> start(EventLoop& loop, const QemuMachineSettings& settings,
                                                    Events events);
  QemuMachine(const QemuMachine&) = delete;
  QemuMachine& operator=(const QemuMachine&) = delete;
  ~QemuMachine();

  /// Ends QEMU at once; on_end follows.
  Result<void> stop() { return qemu_->kill(); }
  [[nodiscard]] pid_t pid() const { return qemu_->pid(); }
  /// The last lines of QEMU's standard error; and why the vsock device gave up, if it did.
  [[nodiscard]] std::string stderr_tail() const;

  /// A reader of the console besides those that connect to `<folder>/console`. Without debug mode there is nothing to
  /// read, and the socket is closed.
  void add_console_reader(Fd socket);
  /// The last of what the guest has printed, at most 4 KiB; empty without debug mode.
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
