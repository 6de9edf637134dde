// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "enclave_proc/qemu/console_buffer.h"
#include "enclave_proc/qemu/qemu.h"
#include "enclave_proc/qemu/vsock/vhost_user.h"
#include "nitro/fd.h"
#include "nitro/result.h"
#include "src/runtime/child.h"
#include "src/runtime/event_loop.h"
#include "tests/machine/host_endpoint.h"
#include "tests/machine/vsock_switch.h"

namespace nitro::machine {

/// What happens when the parent instance starts an enclave.
enum class EnclaveStart {
  kBoot,    ///< its image is booted
  kBeat,    ///< nothing but its heartbeat is sent
  kSilent,  ///< nothing
  kWrong,   ///< a wrong heartbeat is sent
};

struct HypervisorSettings {
  std::vector<std::string> parent;  ///< QEMU and its arguments for the parent instance, without its Nitro devices
  std::string qemu;                 ///< QEMU with the machine nitro-enclave
  std::vector<std::string> firmware_folders;
  std::string folder;  ///< gets `trace`, what the device did, and `NUMBER-CID.log`, the console of each enclave
  EnclaveStart start = EnclaveStart::kBoot;
  std::optional<std::chrono::milliseconds> crash_after;  ///< ends each enclave that long after its start
};

/// A line that the Nitro Enclaves device writes when something has happened (qemu/nitro_enclaves_pci.c).
struct DeviceEvent {
  enum class Kind { kStart, kImage, kStop, kOther };
  Kind kind = Kind::kOther;
  std::uint64_t cid = 0;         ///< kStart; kStop if the device says which, else 0
  bool debug_mode = false;       ///< kStart
  std::uint64_t memory_mib = 0;  ///< kStart

  static DeviceEvent parse(std::string_view line);
};

/// A Nitro machine: the parent instance in a QEMU whose Nitro Enclaves device takes the driver's commands, and each
/// enclave that it starts in another QEMU, with the image that was found in the memory given to it. Their vsock devices
/// are joined; the hypervisor itself serves the consoles of enclaves in debug mode at CID 0. Driven by the event loop;
/// every process ends with this object.
class Hypervisor {
 public:
  /// `on_end`: the parent instance has ended.
  static Result<std::unique_ptr<Hypervisor>> start(EventLoop& loop, HypervisorSettings settings,
                                                   std::function<void(ExitStatus)> on_end);
  Hypervisor(const Hypervisor&) = delete;
  Hypervisor& operator=(const Hypervisor&) = delete;
  ~Hypervisor();

 private:
  struct Enclave {
    std::uint64_t cid = 0;
    bool debug_mode = false;
    Fd log;
    std::unique_ptr<proc::ConsoleServer> console;
    std::unique_ptr<VsockPort> port;
    std::unique_ptr<proc::VhostUserBackend> backend;
    std::unique_ptr<proc::Qemu> qemu;
    EventLoop::Watch timer;  // of its crash
    EventLoop::Watch heartbeat;
    Fd heartbeat_socket;
  };
  using Enclaves = std::map<std::uint64_t, std::unique_ptr<Enclave>>;  // by CID

  Hypervisor(EventLoop& loop, HypervisorSettings settings, std::function<void(ExitStatus)> on_end);
  Result<void> watch_device();
  Result<void> start_parent();
  // Connects the vsock device of a guest with its QEMU; `socket` is for QEMU.
  struct Attached {
    std::unique_ptr<proc::VhostUserBackend> backend;
    Fd socket;
  };
  Result<Attached> attach(VsockPort& port, const std::string& guest);
  void on_device_output();
  void on_event(const std::string& line);
  void on_start(const DeviceEvent& event);
  void on_stop(std::uint64_t cid);
  void start_enclave(const DeviceEvent& event);
  Result<void> boot(Enclave& enclave, std::uint64_t memory_mib);
  void beat(Enclave& enclave);
  // Ends the enclave's machine; the parent instance is told.
  void crash(std::uint64_t cid);
  std::optional<Fd> answer(std::uint64_t cid, std::uint32_t port);
  void say(std::string_view line);

  EventLoop& loop_;
  const HypervisorSettings settings_;
  const std::function<void(ExitStatus)> on_end_;
  VsockSwitch switch_;
  HostEndpoint endpoint_;

  std::string events_path_;
  Fd events_;
  Fd trace_;
  EventLoop::Watch events_watch_;
  std::string unfinished_line_;
  std::optional<DeviceEvent> starting_;
  unsigned started_ = 0;
  unsigned stops_of_unknown_ = 0;

  Fd monitor_;
  EventLoop::Watch monitor_watch_;
  std::unique_ptr<VsockPort> port_;
  std::unique_ptr<proc::VhostUserBackend> backend_;
  Child parent_;
  EventLoop::Watch parent_watch_;
  Enclaves enclaves_;
};

}  // namespace nitro::machine
