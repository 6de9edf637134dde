// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <csignal>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "nitro/fd.h"
#include "nitro/result.h"
#include "src/runtime/child.h"
#include "src/runtime/event_loop.h"
#include "src/runtime/privileges.h"

namespace nitro::proc {

/// The parts of an image that an ordinary machine boots. `fd` is borrowed; offsets and sizes in bytes.
struct BootSections {
  struct Range {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };
  int fd = -1;
  Range kernel;
  std::string command_line;
  std::vector<Range> ramdisks;
};

/// Copies ranges of `source`, one after the other, into an unnamed file in memory. Errors: kEnclaveBoot.
Result<Fd> copy_to_memory(int source, std::span<const BootSections::Range> ranges, const char* name);

/// Returns a path under which a child that inherits `fd` can open the file again.
[[nodiscard]] std::string inherited_path(int fd);

/// One QEMU process. It dies with the thread that started it. The event loop reports what the guest prints and how QEMU
/// ends.
class Qemu {
 public:
  struct Events {
    std::function<void(std::span<const std::byte>)> on_output;
    /// Called once, after the last output. May destroy the object.
    std::function<void(ExitStatus)> on_exit;
  };

  /// `inherited_fds`: the descriptors that the arguments name. `user`: the user to run as, if not that of this process.
  /// QEMU never has capabilities and cannot gain any. Errors: kProcessSpawn, kEpoll.
  static Result<std::unique_ptr<Qemu>> start(EventLoop& loop, std::vector<std::string> arguments,
                                             std::vector<int> inherited_fds, Events events,
                                             std::optional<UserIds> user = {});
  Qemu(const Qemu&) = delete;
  Qemu& operator=(const Qemu&) = delete;
  /// Kills QEMU if it is still running, without calling on_exit.
  ~Qemu() = default;

  /// Sends SIGKILL: an enclave has nothing to save. on_exit follows.
  Result<void> kill() { return child_.send_signal(SIGKILL); }
  [[nodiscard]] pid_t pid() const { return child_.pid(); }
  /// Returns the last lines of QEMU's standard error, at most 4 KiB, without a final newline.
  [[nodiscard]] std::string stderr_tail() const;

 private:
  explicit Qemu(Events events) : events_(std::move(events)) {}
  // Both read what is available, at most `limit` bytes. They return false at the end of the stream.
  bool read_output(std::size_t limit);
  bool read_errors(std::size_t limit);
  void on_end();

  Events events_;
  Child child_;
  Fd output_;
  Fd errors_;
  std::string last_words_;
  EventLoop::Watch output_watch_;
  EventLoop::Watch errors_watch_;
  EventLoop::Watch end_watch_;
};

}  // namespace nitro::proc
