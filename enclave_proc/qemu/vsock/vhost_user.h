// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "enclave_proc/qemu/vsock/guest_memory.h"
#include "enclave_proc/qemu/vsock/vhost_user_channel.h"
#include "enclave_proc/qemu/vsock/virtqueue.h"
#include "nitro/fd.h"
#include "nitro/result.h"
#include "src/runtime/event_loop.h"

namespace nitro::proc {

/// A virtqueue and the eventfd that notifies the driver of used buffers, valid while the driver runs the device.
struct RunningQueue {
  Virtqueue queue;
  Fd call;  ///< may be invalid: the driver polls

  void publish() { queue.publish(call.get()); }
};

/// A virtio device with two queues whose front-end (configuration space, registers, interrupts) is in QEMU. All calls
/// come on the thread of the event loop and must not block.
class VhostUserDevice {
 public:
  virtual ~VhostUserDevice() = default;

  /// The feature bits of this device type; VhostUserBackend handles those of rings and of the protocol.
  [[nodiscard]] virtual std::uint64_t device_features() const = 0;
  /// The device's configuration space; read-only for the driver.
  [[nodiscard]] virtual std::span<const std::byte> config_space() const = 0;

  /// The driver has set up both queues. They stay valid until stopped(). The device calls `on_broken` as soon as it
  /// finds one of them broken (Virtqueue::broken()), whichever queue was kicked; that call invokes stopped().
  virtual void started(RunningQueue& queue0, RunningQueue& queue1, std::function<void()> on_broken) = 0;
  /// The driver is gone (reset, reboot, end of the machine) or broke the rules: both queues are about to be destroyed.
  virtual void stopped() = 0;
  /// The driver has added buffers to queue `index`. Called only between started() and stopped().
  virtual void kicked(unsigned index) = 0;
};

/// The back-end of the vhost-user protocol (QEMU, docs/interop/vhost-user.rst) for one device with two queues, over one
/// connected Unix stream socket, driven by the event loop.
///
/// The front-end (QEMU) is not trusted: sizes and descriptor counts are bounded, and rings must lie in the memory it
/// shared. A malformed request ends the conversation; an unknown one is answered with a failure if it asks for a reply.
/// The same rules make newer front-ends work: features that are not offered are not used.
class VhostUserBackend {
 public:
  static constexpr unsigned kQueueCount = 2;

  /// Called once, when the conversation is over: with a reason when the front-end broke the protocol, without one when
  /// it hung up. Called from the event loop; may destroy the back-end.
  using EndCallback = std::function<void(std::optional<Error> reason)>;

  /// `socket` is one end of a connected stream socket. `loop` and `device` must outlive the back-end; the device is
  /// stopped on destruction. Errors: kEpoll.
  static Result<std::unique_ptr<VhostUserBackend>> start(EventLoop& loop, Fd socket, VhostUserDevice& device,
                                                         EndCallback on_end);
  VhostUserBackend(const VhostUserBackend&) = delete;
  VhostUserBackend& operator=(const VhostUserBackend&) = delete;
  ~VhostUserBackend();

  [[nodiscard]] bool device_running() const { return running_; }
  /// Why the device was stopped, if the driver's rings were invalid; empty once the front-end has set them up again.
  [[nodiscard]] const std::string& device_failure() const { return device_failure_; }

 private:
  // All that the front-end has said about one queue so far.
  struct QueueSettings {
    std::uint32_t size = 0;
    std::uint16_t base = 0;
    bool addresses_known = false;
    std::uint64_t descriptors = 0;  // front-end addresses
    std::uint64_t available = 0;
    std::uint64_t used = 0;
    bool enabled = false;
    bool broken = false;  // by the driver; until the front-end stops the queue or sets it up again
    Fd kick;
    Fd call;
    Fd error;
  };
  using Request = VhostUserRequest;
  /// The payload of the reply, for requests that have one.
  using Answer = std::optional<std::vector<std::byte>>;
  using Handler = Result<Answer> (VhostUserBackend::*)(Request& request);

  VhostUserBackend(EventLoop& loop, Fd socket, VhostUserDevice& device, EndCallback on_end);

  void on_readable();
  void wait_for_descriptors();
  Result<void> handle(Request& request);
  static Handler handler_of(std::uint32_t type);

  // One for each request that has an effect.
  Result<Answer> get_features(Request& request);
  Result<Answer> set_features(Request& request);
  Result<Answer> get_protocol_features(Request& request);
  Result<Answer> set_protocol_features(Request& request);
  Result<Answer> get_queue_count(Request& request);
  Result<Answer> acknowledge(Request& request);
  Result<Answer> set_memory_table(Request& request);
  Result<Answer> get_config(Request& request);
  Result<Answer> set_queue_size(Request& request);
  Result<Answer> set_queue_base(Request& request);
  Result<Answer> get_queue_base(Request& request);
  Result<Answer> set_queue_addresses(Request& request);
  Result<Answer> enable_queue(Request& request);
  Result<Answer> set_kick(Request& request);
  Result<Answer> set_call(Request& request);
  Result<Answer> set_error(Request& request);

  struct QueueFd {
    unsigned index = 0;
    Fd fd;
  };
  Result<QueueFd> queue_fd(Request& request);
  Result<GuestMemory> memory_of(const Request& request) const;
  Result<void> move_queues();
  [[nodiscard]] std::uint64_t offered_features() const;
  Result<QueueSettings*> queue_named(std::uint64_t index);
  // Like queue_named(), for settings that must not change while the device runs.
  Result<QueueSettings*> stopped_queue(std::uint64_t index);

  // Starts or stops the device, so that it runs exactly while both queues are complete.
  Result<void> refresh();
  Result<void> start_device();
  void stop_device();
  Result<RunningQueue> make_queue(const QueueSettings& settings);
  Result<void> watch_kick(unsigned index);
  void on_kick(unsigned index);
  void on_broken();
  void end(std::optional<Error> reason);

  EventLoop& loop_;
  VhostUserDevice& device_;
  EndCallback on_end_;
  VhostUserChannel channel_;
  EventLoop::Watch socket_watch_;
  EventLoop::Watch pause_;

  std::uint64_t features_ = 0;           // as the driver accepted them
  std::uint64_t protocol_features_ = 0;  // as the front-end accepted them
  GuestMemory memory_;
  std::array<QueueSettings, kQueueCount> settings_;
  std::array<EventLoop::Watch, kQueueCount> kick_watches_;
  std::array<std::optional<RunningQueue>, kQueueCount> queues_;
  bool running_ = false;
  std::string device_failure_;
};

}  // namespace nitro::proc
