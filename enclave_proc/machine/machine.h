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

/// What run-enclave was asked for; checked as far as the command line can be.
struct RunRequest {
  std::string eif_path;
  std::optional<std::uint64_t> enclave_cid;  ///< absent: the machine chooses
  MemorySize memory;
  /// How many CPUs, or exactly which; none starts no enclave, see check_cpus().
  std::variant<std::uint32_t, std::vector<std::uint32_t>> cpus = 1U;
  bool debug_mode = false;
  std::string enclave_name;
  Backend backend = Backend::kDevice;
  std::optional<MemorySize> hugepage_size;  ///< take pages of this size only; absent: of any
};

/// What an enclave really got.
struct EnclaveResources {
  std::uint64_t slot_uid = 0;  ///< the number in the enclave's ID and in the name of its socket
  std::uint64_t enclave_cid = 0;
  std::vector<std::uint32_t> cpu_ids;
  MemorySize memory;
};

/// What a machine tells, on the thread of its event loop. Each comes at most once, and nothing comes after on_end.
struct MachineEvents {
  std::function<void()> on_heartbeat;                     ///< the enclave has booted
  std::function<void(const std::string& reason)> on_end;  ///< it has ended by itself: exit, crash, or it never booted
  /// What a reader of the log may want to know of how it runs; any number, during start() only.
  std::function<void(const std::string& remark)> on_remark = [](const std::string&) {};
};

/// The engine under one enclave. Driven by the enclave process in this order: start(), events, stop(); the destructor
/// stops too. Everything happens on the thread that runs the event loop.
class Machine {
 public:
  virtual ~Machine() = default;

  /// Takes memory and CPUs, loads the image and starts the enclave. On failure everything taken has been given back.
  /// May keep the thread busy for long; events of the loop are delivered between two steps then, and stopping the loop
  /// makes it fail (kEnclaveBoot) before the next one. Not to be called from a callback of the loop.
  virtual Result<EnclaveResources> start(EventLoop& loop, MachineEvents events) = 0;
  /// The image file, as long as the machine lives; borrowed, its position is not used. To measure the image
  /// that runs, read it here: the name may stand for another file by then.
  [[nodiscard]] virtual int image_fd() const = 0;
  /// How long the enclave may take from start() to its heartbeat.
  [[nodiscard]] virtual std::chrono::milliseconds boot_timeout() const = 0;
  /// Ends the enclave and gives everything back; no event follows. Does nothing when it has been called before.
  virtual Result<void> stop() = 0;
  /// The child that the enclave runs in and that stop() kills; -1 when there is none.
  [[nodiscard]] virtual pid_t engine() const { return -1; }
  /// What the enclave, or the engine, last said; for the message about an enclave that ended by itself. May be empty.
  [[nodiscard]] virtual std::string stderr_tail() const { return {}; }
};

/// The time an enclave gets to boot: 90 s for each 6 GiB of image and 90 s for each 100 GiB of memory, each rounded up.
[[nodiscard]] std::chrono::milliseconds boot_timeout_for(std::uint64_t eif_bytes, std::uint64_t memory_bytes);

/// Whether any CPU is asked for. Errors: kIoctl, as it is the driver that starts no enclave without one.
[[nodiscard]] Result<void> check_cpus(const RunRequest& request);

/// Whether `memory` is enough for an image of this size: 64 MiB, and four times the image. Errors:
/// kInsufficientMemoryRequested, which names the least that is.
[[nodiscard]] Result<void> check_memory_for_image(MemorySize memory, std::uint64_t eif_bytes);

}  // namespace nitro::proc
