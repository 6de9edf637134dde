// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/qemu_machine.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "src/base/bytes.h"
#include "src/runtime/unix_socket.h"

namespace nitro::proc {

Result<std::unique_ptr<QemuMachine>> QemuMachine::start(EventLoop& loop, const QemuMachineSettings& settings,
                                                        Events events) {
  // The constructor is private: make_unique cannot reach it.
  std::unique_ptr<QemuMachine> machine(new QemuMachine(loop, std::move(events)));
  NITRO_TRY(machine->folder_, LocalFolder::create(settings.folder));
  if (settings.debug_mode) {
    machine->console_.emplace(loop);
    NITRO_CHECK(machine->console_->listen(machine->folder_.console_path()));
  }
  NITRO_CHECK(machine->start_vsock(settings));
  NITRO_TRY(auto sockets, make_socket_pair());
  QemuMachine* const self = machine.get();
  NITRO_TRY(machine->backend_, VhostUserBackend::start(loop, std::move(sockets.first), *machine->vsock_,
                                                       [self](std::optional<Error> reason) {
                                                         if (!reason) return;
                                                         // An enclave that cannot communicate is of no use.
                                                         self->device_failure_ = reason->message();
                                                         static_cast<void>(self->stop());
                                                       }));
  NITRO_CHECK(machine->start_qemu(settings, std::move(sockets.second)));
  return machine;
}

QemuMachine::~QemuMachine() = default;

Result<void> QemuMachine::start_vsock(const QemuMachineSettings& settings) {
  HostPorts ports(folder_.path(), kernel_has_vsock_loopback(),
                  [this](std::uint32_t port) { return answer_port(port); });
  vsock_ = std::make_unique<VirtioVsock>(loop_, settings.cid,
                                         [ports = std::move(ports)](std::uint32_t port) { return ports.dial(port); });
  NITRO_TRY(listener_, ConnectListener::start(loop_, folder_.connect_path(), *vsock_));
  return {};
}

Result<void> QemuMachine::start_qemu(const QemuMachineSettings& settings, Fd vhost_user_socket) {
  QemuSettings command;
  command.binary = settings.qemu.binary;
  command.firmware_folders = settings.qemu.firmware_folders;
  command.sandbox = settings.qemu.sandbox;
  command.accelerator = settings.qemu.kvm ? QemuAccelerator::kKvm : QemuAccelerator::kTcg;
  command.memory = settings.memory;
  command.cpu_count = settings.cpu_count;
  command.vhost_user_fd = vhost_user_socket.get();
  command.name = settings.name;
  command.enclave_id = settings.enclave_id;

  std::vector<int> inherited{vhost_user_socket.get()};
  Fd kernel;  // or the whole image
  Fd ramdisk;
  if (settings.qemu.nitro_enclave_machine) {
    command.machine = QemuMachineType::kNitroEnclave;
    // QEMU opens the file by name, and its user may not be allowed to read that file.
    int image = settings.image.fd;
    struct stat status {};
    if (settings.qemu.user && (::fstat(image, &status) != 0 || (status.st_mode & S_IROTH) == 0)) {
      NITRO_TRY(const std::uint64_t size, file_size(image));
      const BootSections::Range whole{.offset = 0, .size = size};
      NITRO_TRY(kernel, copy_to_memory(image, std::span(&whole, 1), "content"));
      image = kernel.get();
    }
    command.image = inherited_path(image);
    inherited.push_back(image);
  } else {
#if defined(__aarch64__)
    command.machine = QemuMachineType::kVirt;
#else
    command.machine = QemuMachineType::kMicrovm;
#endif
    NITRO_TRY(kernel, copy_to_memory(settings.image.fd, std::span(&settings.image.kernel, 1), "kernel"));
    NITRO_TRY(ramdisk, copy_to_memory(settings.image.fd, settings.image.ramdisks, "ramdisks"));
    command.kernel = inherited_path(kernel.get());
    command.ramdisk = inherited_path(ramdisk.get());
    command.command_line = settings.image.command_line;
    inherited.push_back(kernel.get());
    inherited.push_back(ramdisk.get());
  }

  Qemu::Events events;
  if (console_) events.on_output = [this](std::span<const std::byte> bytes) { console_->append(bytes); };
  events.on_exit = [this](ExitStatus status) { on_exit(status); };
  NITRO_TRY(qemu_,
            Qemu::start(loop_, qemu_arguments(command), std::move(inherited), std::move(events), settings.qemu.user));
  return {};
}

std::optional<Fd> QemuMachine::answer_port(std::uint32_t port) {
  if (port != kHeartbeatPort || heartbeat_seen_ || heartbeat_.valid()) return std::nullopt;
  auto sockets = make_socket_pair();
  if (!sockets || !set_nonblocking(sockets->first.get(), true)) return std::nullopt;
  auto watch = loop_.watch_fd(sockets->first.get(), EPOLLIN, [this](std::uint32_t) { on_heartbeat_socket(); });
  if (!watch) return std::nullopt;
  heartbeat_ = std::move(sockets->first);
  heartbeat_watch_ = std::move(*watch);
  return std::move(sockets->second);
}

void QemuMachine::on_heartbeat_socket() {
  std::byte byte{};
  const ssize_t got = ::recv(heartbeat_.get(), &byte, 1, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  const bool hello = got == 1 && byte == kHeartbeat;
  if (hello) static_cast<void>(::send(heartbeat_.get(), &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
  // Right or wrong, the exchange is one byte; after a wrong one the enclave may try again.
  heartbeat_watch_.cancel();
  heartbeat_.reset();
  if (!hello) return;
  heartbeat_seen_ = true;
  // The callback may destroy this object.
  const auto on_heartbeat = std::exchange(events_.on_heartbeat, nullptr);
  if (on_heartbeat) on_heartbeat();
}

void QemuMachine::on_exit(ExitStatus status) {
  if (console_) console_->finish();
  const auto on_end = std::exchange(events_.on_end, nullptr);
  if (on_end) on_end(status);
}

std::string QemuMachine::stderr_tail() const {
  std::string words = qemu_->stderr_tail();
  const std::string& failure = device_failure_.empty() ? backend_->device_failure() : device_failure_;
  if (failure.empty()) return words;
  return words.empty() ? failure : words + "\n" + failure;
}

void QemuMachine::add_console_reader(Fd socket) {
  if (console_) console_->add_reader(std::move(socket));
}

}  // namespace nitro::proc
