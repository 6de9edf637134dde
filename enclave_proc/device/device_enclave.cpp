// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/device/device_enclave.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "enclave_proc/device/cpu_pool.h"
#include "enclave_proc/device/device.h"
#include "enclave_proc/device/heartbeat.h"
#include "enclave_proc/device/memory.h"
#include "enclave_proc/device/numa.h"
#include "nitro/eif/reader.h"

namespace nitro::proc {
namespace {

/// Pause between two attempts to take the allocation lock. Another process holds it while it takes its pages or CPUs.
constexpr std::chrono::milliseconds kAllocationPause(10);
/// A stopped process keeps the lock, but must not keep all others from starting.
constexpr std::chrono::seconds kTurnLimit(10);

class DeviceEnclave final : public Machine {
 public:
  DeviceEnclave(const RunRequest& request, std::optional<unsigned> numa_node, eif::Reader image, EnclaveSlot slot)
      : request_(request), numa_node_(numa_node), image_(std::move(image)), slot_(std::move(slot)) {}
  DeviceEnclave(const DeviceEnclave&) = delete;
  DeviceEnclave& operator=(const DeviceEnclave&) = delete;
  ~DeviceEnclave() override { release(); }

  Result<EnclaveResources> start(EventLoop& loop, MachineEvents events) override {
    events_ = std::move(events);
    auto resources = take_and_start(loop);
    if (!resources) release();
    return resources;
  }

  [[nodiscard]] int image_fd() const override { return image_.fd(); }
  [[nodiscard]] std::chrono::milliseconds boot_timeout() const override {
    return boot_timeout_for(image_.file_size_bytes(), memory_.size().bytes());
  }

  Result<void> stop() override {
    release();
    return {};
  }

 private:
  Result<EnclaveResources> take_and_start(EventLoop& loop) {
    EnclaveResources resources;
    resources.slot_uid = slot_.uid();
    NITRO_CHECK(add_memory(loop));
    resources.memory = memory_.size();
    NITRO_TRY(resources.cpu_ids, add_cpus(loop));
    NITRO_CHECK(go_on(loop));
    NITRO_TRY(Fd listener, Heartbeat::listen());
    NITRO_TRY(resources.enclave_cid, slot_.start(request_.enclave_cid.value_or(0), request_.debug_mode));
    // The driver keeps reporting the end as a hang-up, so an end between start() and this watch is not missed.
    NITRO_TRY(end_watch_, loop.watch_fd(slot_.fd(), 0, [this](std::uint32_t) {
      ended("the hypervisor reports that it has stopped");
    }));
    NITRO_TRY(heartbeat_, Heartbeat::wait(loop, std::move(listener), Heartbeat::from_cid(resources.enclave_cid),
                                          {.on_beat = [this] { events_.on_heartbeat(); },
                                           .on_failure = [this](const std::string& reason) { ended(reason); }}));
    return resources;
  }

  /// A call of the driver may take long, as it finds and clears memory, and cannot be interrupted. This delivers
  /// pending events between two calls: a signal, a command line that has gone away.
  static Result<void> go_on(EventLoop& loop, std::chrono::milliseconds pause = std::chrono::milliseconds(0)) {
    NITRO_CHECK(loop.run_once(pause));
    if (loop.stopped()) return fail(ErrorCode::kEnclaveBoot, "the start was interrupted");
    return {};
  }

  /// A file lock cannot be waited for together with other events, so this polls. When time runs out the enclave starts
  /// without the lock, and the driver decides who gets what.
  Result<AllocationLock> take_allocation_lock(EventLoop& loop) {
    AllocationLock lock = slot_.allocation_lock();
    if (lock.taken()) return lock;
    bool waited_enough = false;
    const auto limit = loop.watch_timer(kTurnLimit, [&waited_enough] { waited_enough = true; });
    while (!lock.taken() && !waited_enough) {
      NITRO_CHECK(go_on(loop, kAllocationPause));
      lock = slot_.allocation_lock();
    }
    return lock;
  }

  Result<void> allocate_memory(EventLoop& loop) {
    NITRO_TRY(const AllocationLock lock, take_allocation_lock(loop));
    NITRO_TRY(memory_,
              EnclaveMemory::allocate(request_.memory, {.size = request_.hugepage_size, .numa_node = numa_node_},
                                      [&loop] { return go_on(loop); }));
    return {};
  }

  Result<void> add_memory(EventLoop& loop) {
    NITRO_CHECK(allocate_memory(loop));
    NITRO_TRY(const std::uint64_t offset, slot_.image_offset());
    auto loaded = memory_.load_image(image_.fd(), image_.file_size_bytes(), offset, [&loop] { return go_on(loop); });
    if (!loaded) return fail_within("copying the image into the enclave's memory", std::move(loaded).error());
    for (const Mapping& region : memory_.regions()) {
      NITRO_CHECK(go_on(loop));
      NITRO_CHECK(slot_.add_memory(region.bytes()));
    }
    return {};
  }

  Result<std::vector<std::uint32_t>> add_cpus(EventLoop& loop) {
    std::vector<std::uint32_t> wanted;
    if (const auto* ids = std::get_if<std::vector<std::uint32_t>>(&request_.cpus)) {
      wanted = *ids;
    } else {
      wanted.assign(std::get<std::uint32_t>(request_.cpus), kAnyCpu);
    }
    NITRO_TRY(const AllocationLock lock, take_allocation_lock(loop));
    std::vector<std::uint32_t> given;
    for (const std::uint32_t id : wanted) {
      NITRO_CHECK(go_on(loop));
      NITRO_TRY(const std::uint32_t cpu, slot_.add_cpu(id));
      given.push_back(cpu);
    }
    return given;
  }

  /// Only the first end counts; the descriptor would report it again and again.
  void ended(const std::string& reason) {
    end_watch_.cancel();
    heartbeat_.reset();
    events_.on_end(reason);
  }

  /// The slot goes first: it holds the driver's references to the pages.
  void release() {
    heartbeat_.reset();
    end_watch_.cancel();
    slot_ = EnclaveSlot();
    memory_ = EnclaveMemory();
  }

  RunRequest request_;
  std::optional<unsigned> numa_node_;
  eif::Reader image_;
  MachineEvents events_;
  EnclaveMemory memory_;
  EnclaveSlot slot_;
  std::unique_ptr<Heartbeat> heartbeat_;
  EventLoop::Watch end_watch_;
};

/// Whether the pool has the CPUs. Without its device a loaded driver has an empty pool, and a message about that alone
/// would lead to the allocator.
Result<void> check_pool(const CpuPool& pool, const RunRequest& request, const KernelFiles& files) {
  auto checked = pool.check(request);
  if (checked || !pool.ids().empty() || ::access(files.device().c_str(), F_OK) == 0 || errno != ENOENT) return checked;
  Error error = std::move(checked).error();
  return fail(error.code(), fmt::format("{}: {}", error.message(), why_no_device(files)));
}

}  // namespace

Result<std::unique_ptr<Machine>> make_device_enclave(const RunRequest& request, Result<Fd> image_file,
                                                     const KernelFiles& files) {
  NITRO_TRY(Fd file, std::move(image_file));
  NITRO_TRY(const CpuPool pool, CpuPool::read(files));
  NITRO_CHECK(check_pool(pool, request, files));
  NITRO_TRY(const std::uint64_t eif_bytes, file_size(file.get()));
  NITRO_CHECK(check_memory_for_image(request.memory, eif_bytes));
  NITRO_TRY(EnclaveSlot slot, EnclaveSlot::create(files));
  auto image = eif::Reader::open(std::move(file), request.eif_path);
  if (!image) return Failure(std::move(image).error().as(ErrorCode::kSignatureChecker));
  return std::unique_ptr<Machine>(
      std::make_unique<DeviceEnclave>(request, numa_node_of(pool, files), std::move(*image), std::move(slot)));
}

}  // namespace nitro::proc
