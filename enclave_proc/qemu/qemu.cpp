// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/qemu.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "src/base/bytes.h"

namespace nitro::proc {
namespace {

constexpr std::size_t kLastWords = 4096;
constexpr std::size_t kReadPerRound = std::size_t{64} * 1024;
// The most that a pipe can hold when QEMU has ended (/proc/sys/fs/pipe-max-size, by default).
constexpr std::size_t kReadAtEnd = std::size_t{1024} * 1024;

/// Reads `fd` until it is empty or `limit` is reached. Returns false at the end of the stream.
template <class Take>
bool drain(int fd, std::size_t limit, Take take) {
  std::array<std::byte, 16384> piece;
  while (limit > 0) {
    const ssize_t got = ::read(fd, piece.data(), std::min(limit, piece.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return false;
    limit -= static_cast<std::size_t>(got);
    take(std::span<const std::byte>(piece).first(static_cast<std::size_t>(got)));
  }
  return true;
}

}  // namespace

Result<Fd> copy_to_memory(int source, std::span<const BootSections::Range> ranges, const char* name) {
  Fd target(::memfd_create(name, MFD_CLOEXEC));
  if (!target) return fail_errno(ErrorCode::kEnclaveBoot, "creating a file in memory");
  for (const BootSections::Range& range : ranges) {
    auto offset = static_cast<off_t>(range.offset);
    std::uint64_t left = range.size;
    while (left > 0) {
      const ssize_t copied = ::sendfile(target.get(), source, &offset, left);
      if (copied < 0 && errno == EINTR) continue;
      if (copied < 0) return fail_errno(ErrorCode::kEnclaveBoot, fmt::format("copying the {} of the image", name));
      if (copied == 0) {
        return fail(ErrorCode::kEnclaveBoot,
                    fmt::format("copying the {} of the image: the image ends too early", name));
      }
      left -= static_cast<std::uint64_t>(copied);
    }
  }
  return target;
}

std::string inherited_path(int fd) {
  return fmt::format("/proc/self/fd/{}", fd);
}

Result<std::unique_ptr<Qemu>> Qemu::start(EventLoop& loop, std::vector<std::string> arguments,
                                          std::vector<int> inherited_fds, Events events, std::optional<UserIds> user) {
  NITRO_TRY(auto output, make_pipe());
  NITRO_TRY(auto errors, make_pipe());
  NITRO_CHECK(set_nonblocking(output.first.get(), true));
  NITRO_CHECK(set_nonblocking(errors.first.get(), true));

  ChildOptions options;
  options.arguments = std::move(arguments);
  options.inherited_fds = std::move(inherited_fds);
  options.stdout_fd = output.second.get();
  options.stderr_fd = errors.second.get();
  options.new_session = true;
  // The machine nitro-enclave unpacks the image into temporary files, and root's own folder for them may be closed to
  // others.
  if (user) options.environment = {"TMPDIR=/tmp"};
  options.user = std::move(user);
  options.drop_capabilities = true;
  options.parent_death_signal = SIGKILL;
  // The constructor is private: make_unique cannot reach it.
  std::unique_ptr<Qemu> qemu(new Qemu(std::move(events)));
  NITRO_TRY(qemu->child_, Child::spawn(options));
  qemu->output_ = std::move(output.first);
  qemu->errors_ = std::move(errors.first);

  Qemu* const self = qemu.get();
  NITRO_TRY(qemu->output_watch_, loop.watch_fd(self->output_.get(), EPOLLIN, [self](std::uint32_t) {
    if (!self->read_output(kReadPerRound)) self->output_watch_.cancel();
  }));
  NITRO_TRY(qemu->errors_watch_, loop.watch_fd(self->errors_.get(), EPOLLIN, [self](std::uint32_t) {
    if (!self->read_errors(kReadPerRound)) self->errors_watch_.cancel();
  }));
  NITRO_TRY(qemu->end_watch_, loop.watch_fd(self->child_.pidfd(), EPOLLIN, [self](std::uint32_t) { self->on_end(); }));
  return qemu;
}

bool Qemu::read_output(std::size_t limit) {
  return drain(output_.get(), limit, [this](std::span<const std::byte> bytes) {
    if (events_.on_output) events_.on_output(bytes);
  });
}

bool Qemu::read_errors(std::size_t limit) {
  return drain(errors_.get(), limit, [this](std::span<const std::byte> bytes) {
    last_words_ += as_text(bytes);
    if (last_words_.size() > 2 * kLastWords) last_words_.erase(0, last_words_.size() - kLastWords);
  });
}

void Qemu::on_end() {
  auto status = child_.poll();
  if (status && !*status) return;
  end_watch_.cancel();
  output_watch_.cancel();
  errors_watch_.cancel();
  read_output(kReadAtEnd);
  read_errors(kReadAtEnd);
  // The callback may destroy this object.
  const auto on_exit = std::exchange(events_.on_exit, nullptr);
  if (on_exit) on_exit(status ? **status : ExitStatus{1, 0});
}

std::string Qemu::stderr_tail() const {
  std::string text =
      last_words_.size() > kLastWords ? last_words_.substr(last_words_.size() - kLastWords) : last_words_;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace nitro::proc
