// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "enclave_proc/machine/vsock_address.h"
#include "src/base/memory_size.h"
#include "src/runtime/event_loop.h"

namespace nitro::proc {

/// Which engine runs the enclave.
enum class Backend : std::uint8_t {
  kDevice,  ///< /dev/nitro_enclaves
  kQemu,    ///< QEMU on this machine
};

/// The options of run-enclave, validated as far as the command line can.
struct RunRequest {
  std::string eif_path;
  std::optional<std::uint64_t> enclave_cid;  ///< absent: the machine chooses
  MemorySize memory;
  /// How many CPUs, or exactly which; a request for none is refused, see check_cpus().
  std::variant<std::uint32_t, std::vector<std::uint32_t>> cpus = 1U;
  bool debug_mode = false;
  std::string enclave_name;
  Backend backend = Backend::kDevice;
  std::optional<MemorySize> hugepage_size;  ///< take pages of this size only; absent: any size
};

/// The resources an enclave actually got.
struct EnclaveResources {
  std::uint64_t slot_uid = 0;  ///< number in the enclave's ID and in the name of its socket
  std::uint64_t enclave_cid = 0;
  std::vector<std::uint32_t> cpu_ids;
  MemorySize memory;
};

/// Events of a machine, on the thread of its event loop. Each comes at most once, and nothing comes after on_end.
struct MachineEvents {
  std::function<void()> on_heartbeat;                     ///< the enclave has booted
  std::function<void(const std::string& reason)> on_end;  ///< it has ended on its own: exit, crash, or failure to boot
  /// A remark for the log about how the machine runs; any number, during start() only.
  std::function<void(const std::string& remark)> on_remark = [](const std::string&) {};
};

/// The engine that runs one enclave. The enclave process drives it in this order: start(), events, stop(); the
/// destructor also stops. Everything happens on the thread that runs the event loop.
class Machine {
 public:
  virtual ~Machine() = default;

  /// Takes memory and CPUs, loads the image and starts the enclave. On failure everything taken has been released. May
  /// keep the thread busy for long; between two steps it delivers events of the loop, and stopping the loop makes it
  /// fail (kEnclaveBoot) before the next step. Must not be called from a callback of the loop.
  virtual Result<EnclaveResources> start(EventLoop& loop, MachineEvents events) = 0;
  /// The image file, open as long as the machine lives; borrowed, its position is not used. Read it here to measure the
  /// image that runs: the path may lead to another file by then.
  [[nodiscard]] virtual int image_fd() const = 0;
  /// How long the enclave may take from start() to its heartbeat.
  [[nodiscard]] virtual std::chrono::milliseconds boot_timeout() const = 0;
  /// Ends the enclave and releases everything; no event follows. Further calls do nothing.
  virtual Result<void> stop() = 0;
  /// The child process that runs the enclave and that stop() kills; -1 when there is none.
  [[nodiscard]] virtual pid_t engine() const { return -1; }
  /// The last output of the enclave or the engine, for the message about an enclave that ended on its own. May be
  /// empty.
  [[nodiscard]] virtual std::string stderr_tail() const { return {}; }
};

/// The time an enclave gets to boot: 90 s for each 6 GiB of image plus 90 s for each 100 GiB of memory, each rounded
/// up.
[[nodiscard]] std::chrono::milliseconds boot_timeout_for(std::uint64_t eif_bytes, std::uint64_t memory_bytes);

/// Checks that at least one CPU is requested. Errors: kIoctl, as it is the driver that refuses to start without one.
[[nodiscard]] Result<void> check_cpus(const RunRequest& request);

/// Checks that `memory` is enough for an image of this size: at least 64 MiB and four times the image. Errors:
/// kInsufficientMemoryRequested, which names the minimum.
[[nodiscard]] Result<void> check_memory_for_image(MemorySize memory, std::uint64_t eif_bytes);

}  // namespace nitro::proc
