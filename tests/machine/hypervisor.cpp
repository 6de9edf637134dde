// SPDX-License-Identifier: Apache-2.0
#include "tests/machine/hypervisor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <utility>

#include "enclave_proc/machine/vsock_address.h"
#include "enclave_proc/qemu/qemu_command.h"
#include "src/base/bytes.h"
#include "src/base/memory_size.h"
#include "src/base/number.h"
#include "src/runtime/unix_socket.h"

namespace nitro::machine {

using proc::Qemu;
using proc::VhostUserBackend;
using namespace std::chrono_literals;

namespace {

// How often a heartbeat is tried until the parent instance listens for it.
constexpr auto kHeartbeatInterval = 100ms;
constexpr std::byte kWrongHeartbeat{0x42};
constexpr std::uint64_t kDebugMode = 1;

/// The number after `key` in "… key=17 …", or nothing.
std::optional<std::uint64_t> field(std::string_view line, std::string_view key) {
  const std::size_t at = line.find(fmt::format(" {}=", key));
  if (at == std::string_view::npos) return std::nullopt;
  line.remove_prefix(at + key.size() + 2);
  return parse_number<std::uint64_t>(line.substr(0, line.find_first_not_of("0123456789")));
}

Result<Fd> append_to(const std::string& path) {
  return open_file(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
}

}  // namespace

DeviceEvent DeviceEvent::parse(std::string_view line) {
  DeviceEvent event;
  const std::string_view word = line.substr(0, line.find(' '));
  event.cid = field(line, "cid").value_or(0);
  if (word == "START") {
    event.kind = Kind::kStart;
    event.debug_mode = (field(line, "flags").value_or(0) & kDebugMode) != 0;
    event.memory_mib = field(line, "mem").value_or(0);
  } else if (word == "IMAGE") {
    event.kind = Kind::kImage;
  } else if (word == "STOP") {
    event.kind = Kind::kStop;
  }
  return event;
}

Hypervisor::Hypervisor(EventLoop& loop, HypervisorSettings settings, std::function<void(ExitStatus)> on_end)
    : loop_(loop),
      settings_(std::move(settings)),
      on_end_(std::move(on_end)),
      switch_(loop),
      endpoint_(
          loop, proc::kParentCid, [this](std::uint64_t cid, std::uint32_t port) { return answer(cid, port); },
          [this] { switch_.wake(); }) {}

Hypervisor::~Hypervisor() {
  if (!events_path_.empty()) ::unlink(events_path_.c_str());
}

Result<std::unique_ptr<Hypervisor>> Hypervisor::start(EventLoop& loop, HypervisorSettings settings,
                                                      std::function<void(ExitStatus)> on_end) {
  // The constructor is private: make_unique cannot reach it.
  std::unique_ptr<Hypervisor> hypervisor(new Hypervisor(loop, std::move(settings), std::move(on_end)));
  NITRO_CHECK(hypervisor->watch_device());
  NITRO_CHECK(hypervisor->start_parent());
  return hypervisor;
}

Result<void> Hypervisor::watch_device() {
  NITRO_TRY(trace_, append_to(settings_.folder + "/trace"));
  // The device opens the file by its name for every line.
  events_path_ = settings_.folder + "/events";
  if (::mkfifo(events_path_.c_str(), 0600) != 0)
    return fail_errno(ErrorCode::kFileOperation, fmt::format("creating {}", events_path_));
  // Open for writing too: it never ends.
  NITRO_TRY(events_, open_file(events_path_, O_RDWR | O_NONBLOCK));
  NITRO_TRY(events_watch_, loop_.watch_fd(events_.get(), EPOLLIN, [this](std::uint32_t) { on_device_output(); }));
  return {};
}

Result<Hypervisor::Attached> Hypervisor::attach(VsockPort& port, const std::string& guest) {
  NITRO_TRY(auto sockets, make_socket_pair());
  NITRO_TRY(auto backend, VhostUserBackend::start(loop_, std::move(sockets.first), port, [this, guest](auto reason) {
              if (reason) say(fmt::format("vsock of {}: {}", guest, reason->message()));
            }));
  return Attached{.backend = std::move(backend), .socket = std::move(sockets.second)};
}

Result<void> Hypervisor::start_parent() {
  port_ = switch_.add(proc::kParentCid, &endpoint_);
  NITRO_TRY(auto vsock, attach(*port_, "the parent instance"));
  backend_ = std::move(vsock.backend);
  NITRO_TRY(auto monitor, make_socket_pair());
  monitor_ = std::move(monitor.first);
  // Answers of the monitor are of no interest, but must not fill its socket.
  NITRO_TRY(monitor_watch_, loop_.watch_fd(monitor_.get(), EPOLLIN, [this](std::uint32_t) {
    std::array<char, 4096> answer;
    if (::recv(monitor_.get(), answer.data(), answer.size(), MSG_DONTWAIT) == 0) monitor_watch_.cancel();
  }));
  NITRO_CHECK(write_all(monitor_.get(), as_bytes(R"({"execute": "qmp_capabilities"})")));

  ChildOptions options;
  options.arguments = settings_.parent;
  for (std::string argument : {std::string("-chardev"), fmt::format("socket,id=vsock,fd={}", vsock.socket.get()),
                               std::string("-device"), std::string("vhost-user-vsock-pci,chardev=vsock"),
                               std::string("-chardev"), fmt::format("socket,id=monitor,fd={}", monitor.second.get()),
                               std::string("-mon"), std::string("chardev=monitor,mode=control"), std::string("-device"),
                               fmt::format("ne-pci,id=ne,image-dir={},trace={}", settings_.folder, events_path_)}) {
    options.arguments.push_back(std::move(argument));
  }
  options.stdin_fd = STDIN_FILENO;
  options.stdout_fd = STDOUT_FILENO;
  options.stderr_fd = STDERR_FILENO;
  options.inherited_fds = {vsock.socket.get(), monitor.second.get()};
  options.parent_death_signal = SIGKILL;
  NITRO_TRY(parent_, Child::spawn(options));
  NITRO_TRY(parent_watch_, loop_.watch_fd(parent_.pidfd(), EPOLLIN, [this](std::uint32_t) {
    parent_watch_.cancel();
    on_device_output();
    const auto status = parent_.wait();
    on_end_(status ? *status : ExitStatus{.code = 1, .signal = 0});
  }));
  return {};
}

void Hypervisor::say(std::string_view line) {
  static_cast<void>(write_all(trace_.get(), as_bytes(fmt::format("{}\n", line))));
}

void Hypervisor::on_device_output() {
  std::array<char, 4096> text;
  while (true) {
    const ssize_t got = ::read(events_.get(), text.data(), text.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return;
    unfinished_line_.append(text.data(), static_cast<std::size_t>(got));
    for (std::size_t end = 0; (end = unfinished_line_.find('\n')) != std::string::npos;) {
      const std::string line = unfinished_line_.substr(0, end);
      unfinished_line_.erase(0, end + 1);
      on_event(line);
    }
  }
}

void Hypervisor::on_event(const std::string& line) {
  say(line);
  const DeviceEvent event = DeviceEvent::parse(line);
  switch (event.kind) {
    case DeviceEvent::Kind::kStart:
      starting_ = event;
      // Without a heartbeat of its own, the image does not matter.
      if (settings_.start != EnclaveStart::kBoot) on_start(*std::exchange(starting_, std::nullopt));
      break;
    case DeviceEvent::Kind::kImage:
      if (starting_) on_start(*std::exchange(starting_, std::nullopt));
      break;
    case DeviceEvent::Kind::kStop:
      on_stop(event.cid);
      break;
    case DeviceEvent::Kind::kOther:
      break;
  }
}

void Hypervisor::on_stop(std::uint64_t cid) {
  if (cid != 0) {
    enclaves_.erase(cid);
    endpoint_.close_all_of(cid);
    return;
  }
  // A device that does not say which: known when all have stopped.
  if (++stops_of_unknown_ < enclaves_.size()) return;
  stops_of_unknown_ = 0;
  for (const auto& [each, enclave] : enclaves_) endpoint_.close_all_of(each);
  enclaves_.clear();
}

void Hypervisor::on_start(const DeviceEvent& event) {
  if (enclaves_.erase(event.cid) > 0) {
    // The enclave that had this CID has stopped.
    if (stops_of_unknown_ > 0) --stops_of_unknown_;
    endpoint_.close_all_of(event.cid);
  }
  start_enclave(event);
}

void Hypervisor::start_enclave(const DeviceEvent& event) {
  Enclave& enclave = *enclaves_.emplace(event.cid, std::make_unique<Enclave>()).first->second;
  enclave.cid = event.cid;
  enclave.debug_mode = event.debug_mode;
  enclave.console = std::make_unique<proc::ConsoleServer>(loop_);
  ++started_;
  if (settings_.start == EnclaveStart::kBoot) {
    if (const auto booted = boot(enclave, event.memory_mib); !booted)
      say(fmt::format("enclave {} does not boot: {}", event.cid, booted.error().message()));
  } else if (settings_.start != EnclaveStart::kSilent) {
    beat(enclave);
  }
  if (settings_.crash_after)
    enclave.timer = loop_.watch_timer(*settings_.crash_after, [this, cid = event.cid] { crash(cid); });
}

Result<void> Hypervisor::boot(Enclave& enclave, std::uint64_t memory_mib) {
  NITRO_TRY(enclave.log, append_to(fmt::format("{}/{}-{}.log", settings_.folder, started_, enclave.cid)));
  // The device writes the image of the next enclave with this CID under the same name.
  const std::string written = fmt::format("{}/enclave-{}.eif", settings_.folder, enclave.cid);
  NITRO_TRY(const Fd image, open_file(written, O_RDONLY));
  if (::unlink(written.c_str()) != 0) return fail_errno(ErrorCode::kFileOperation, fmt::format("removing {}", written));

  enclave.port = switch_.add(enclave.cid);
  NITRO_TRY(auto vsock, attach(*enclave.port, fmt::format("enclave {}", enclave.cid)));
  enclave.backend = std::move(vsock.backend);
  proc::QemuSettings command;
  command.binary = settings_.qemu;
  command.firmware_folders = settings_.firmware_folders;
  command.sandbox = false;
  command.machine = proc::QemuMachineType::kNitroEnclave;
  command.memory = MemorySize::from_mib(memory_mib);
  command.vhost_user_fd = vsock.socket.get();
  command.name = fmt::format("enclave-{}", enclave.cid);
  command.enclave_id = fmt::format("enclave-{}", enclave.cid);
  command.image = proc::inherited_path(image.get());
  Qemu::Events events;
  events.on_output = [this, &enclave](std::span<const std::byte> bytes) {
    static_cast<void>(write_all(enclave.log.get(), bytes));
    enclave.console->append(bytes);
  };
  events.on_exit = [this, &enclave](ExitStatus status) {
    if (!status.success()) {
      static_cast<void>(write_all(
          enclave.log.get(), as_bytes(fmt::format("QEMU {}\n{}\n", status.to_string(), enclave.qemu->stderr_tail()))));
    }
    crash(enclave.cid);
  };
  NITRO_TRY(enclave.qemu,
            Qemu::start(loop_, proc::qemu_arguments(command), {vsock.socket.get(), image.get()}, std::move(events)));
  return {};
}

void Hypervisor::beat(Enclave& enclave) {
  const std::byte beat = settings_.start == EnclaveStart::kBeat ? proc::kHeartbeat : kWrongHeartbeat;
  // Tried again until the parent instance has taken it: it starts to listen at any time.
  enclave.heartbeat = loop_.watch_timer(
      kHeartbeatInterval,
      [this, &enclave, beat] {
        std::byte answer{};
        const int previous = enclave.heartbeat_socket.get();
        if (previous >= 0 && ::recv(previous, &answer, 1, MSG_DONTWAIT) == 1) return enclave.heartbeat.cancel();
        if (previous >= 0 && errno == EAGAIN) return;
        auto sockets = make_socket_pair();
        if (!sockets) return;
        // The endpoint closes its end when the guest refuses.
        static_cast<void>(::send(sockets->second.get(), &beat, 1, MSG_DONTWAIT | MSG_NOSIGNAL));
        enclave.heartbeat_socket = std::move(sockets->second);
        endpoint_.connect(std::move(sockets->first), enclave.cid, proc::kHeartbeatPort);
      },
      true);
}

void Hypervisor::crash(std::uint64_t cid) {
  const auto found = enclaves_.find(cid);
  if (found == enclaves_.end()) return;
  Enclave& enclave = *found->second;
  // Kept until the driver stops it, but nothing of it runs. QEMU may be the caller.
  loop_.defer([qemu = std::shared_ptr<Qemu>(std::move(enclave.qemu))] {});
  enclave.backend.reset();
  enclave.port.reset();
  enclave.timer.cancel();
  enclave.heartbeat.cancel();
  enclave.heartbeat_socket.reset();
  enclave.console->finish();
  endpoint_.close_all_of(cid);
  const nlohmann::ordered_json command{
      {"execute", "qom-set"},
      {"arguments", {{"path", "/machine/peripheral/ne"}, {"property", "crash"}, {"value", cid}}}};
  static_cast<void>(write_all(monitor_.get(), as_bytes(command.dump())));
}

std::optional<Fd> Hypervisor::answer(std::uint64_t cid, std::uint32_t port) {
  if (cid != 0 || port < proc::kConsolePortOffset) return std::nullopt;
  const auto found = enclaves_.find(port - proc::kConsolePortOffset);
  if (found == enclaves_.end() || !found->second->debug_mode) return std::nullopt;
  auto sockets = make_socket_pair();
  if (!sockets) return std::nullopt;
  found->second->console->add_reader(std::move(sockets->second));
  return std::move(sockets->first);
}

}  // namespace nitro::machine
