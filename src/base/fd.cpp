// SPDX-License-Identifier: Apache-2.0
#include "nitro/fd.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/base/bytes.h"

namespace nitro {

namespace {

std::string_view kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a pipe";
  return "a device";
}

}  // namespace

Fd::~Fd() {
  // close(2) releases the descriptor even when it reports an error, and the error could not be reported to anybody:
  // data that must be durable was already passed through fsync.
  if (fd_ >= 0) ::close(fd_);
}

Result<Fd> open_file(const std::string& path, int flags, unsigned mode, ErrorCode code) {
  Fd fd(::open(path.c_str(), flags | O_CLOEXEC, mode));
  if (fd) return fd;
  // Otherwise the user would see the text of ENXIO, "No such device or address", which is about devices.
  struct stat status {};
  if (errno == ENXIO && ::stat(path.c_str(), &status) == 0 && S_ISSOCK(status.st_mode)) {
    return Failure(Error(code, fmt::format("opening {}: it is a socket", quote(path)), ENXIO));
  }
  return fail_errno(code, fmt::format("opening {}", quote(path)));
}

Result<Fd> open_regular_file(const std::string& path) {
  // With O_NONBLOCK a FIFO opens without a writer; for regular files the flag has no effect (open(2)).
  NITRO_TRY(Fd fd, open_file(path, O_RDONLY | O_NONBLOCK));
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) {
    return fail_errno(ErrorCode::kFileOperation, fmt::format("looking at {}", quote(path)));
  }
  if (S_ISREG(status.st_mode)) return fd;
  return fail(ErrorCode::kFileOperation,
              fmt::format("{} is {}; give a regular file", quote(path), kind_of(status.st_mode)));
}

Result<std::uint64_t> file_size(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return fail_errno(ErrorCode::kFileOperation, "asking for the size of a file");
  return static_cast<std::uint64_t>(status.st_size);
}

Result<std::size_t> read_full(int fd, std::span<std::byte> buffer) {
  std::size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t count = ::read(fd, buffer.data() + done, buffer.size() - done);
    if (count < 0) {
      if (errno == EINTR) continue;
      return fail_errno(ErrorCode::kFileOperation, "reading");
    }
    if (count == 0) break;
    done += static_cast<std::size_t>(count);
  }
  return done;
}

Result<void> read_exact(int fd, std::span<std::byte> buffer) {
  NITRO_TRY(const std::size_t count, read_full(fd, buffer));
  if (count < buffer.size()) {
    return fail(ErrorCode::kFileOperation, fmt::format("the data ends after {} of {} bytes", count, buffer.size()));
  }
  return {};
}

Result<void> pread_exact(int fd, std::span<std::byte> buffer, std::uint64_t offset_bytes) {
  std::size_t done = 0;
  while (done < buffer.size()) {
    const ssize_t count =
        ::pread(fd, buffer.data() + done, buffer.size() - done, static_cast<off_t>(offset_bytes + done));
    if (count < 0) {
      if (errno == EINTR) continue;
      return fail_errno(ErrorCode::kFileOperation, fmt::format("reading at offset {}", offset_bytes + done));
    }
    if (count == 0) {
      return fail(ErrorCode::kFileOperation, fmt::format("the file ends at offset {}, {} bytes too early",
                                                         offset_bytes + done, buffer.size() - done));
    }
    done += static_cast<std::size_t>(count);
  }
  return {};
}

Result<void> open_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
    // open(2) returns the lowest free number, and those below are open by now. No O_CLOEXEC: children need these
    // descriptors too.
    if (::open("/dev/null", O_RDWR) != fd) return fail_errno(ErrorCode::kFileOperation, "opening \"/dev/null\"");
  }
  return {};
}

Result<void> write_all(int fd, std::span<const std::byte> bytes) {
  bool is_socket = true;
  while (!bytes.empty()) {
    // MSG_NOSIGNAL makes a vanished reader an error instead of a signal; it exists for sockets only.
    ssize_t count = is_socket ? ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) : -1;
    if (is_socket && count < 0 && errno == ENOTSOCK) is_socket = false;
    if (!is_socket) count = ::write(fd, bytes.data(), bytes.size());
    if (count < 0) {
      if (errno == EINTR) continue;
      return fail_errno(ErrorCode::kFileOperation, "writing");
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
  return {};
}

Result<void> pwrite_all(int fd, std::span<const std::byte> bytes, std::uint64_t offset_bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset_bytes));
    if (count < 0) {
      if (errno == EINTR) continue;
      return fail_errno(ErrorCode::kFileOperation, fmt::format("writing at offset {}", offset_bytes));
    }
    bytes = bytes.subspan(static_cast<std::size_t>(count));
    offset_bytes += static_cast<std::uint64_t>(count);
  }
  return {};
}

Result<std::string> read_text_file(const std::string& path, std::size_t limit_bytes) {
  NITRO_TRY(const Fd fd, open_file(path, O_RDONLY));
  std::string text;
  // Files in /proc and /sys report no size, so read until the end.
  while (true) {
    const std::size_t old_size = text.size();
    text.resize(old_size + 65536);
    auto count = read_full(fd.get(), std::as_writable_bytes(std::span(text)).subspan(old_size));
    if (!count) return fail_within(fmt::format("reading {}", quote(path)), std::move(count).error());
    text.resize(old_size + *count);
    if (text.size() > limit_bytes) {
      return fail(ErrorCode::kFileOperation,
                  fmt::format("{} is larger than {} bytes, the limit for such a file", quote(path), limit_bytes));
    }
    if (*count < 65536) return text;
  }
}

Result<void> set_nonblocking(int fd, bool on) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) < 0) {
    return fail_errno(ErrorCode::kFileOperation, "changing the blocking mode of a descriptor");
  }
  return {};
}

Result<std::pair<Fd, Fd>> make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return fail_errno(ErrorCode::kFileOperation, "creating a pipe");
  return std::pair(Fd(ends[0]), Fd(ends[1]));
}

}  // namespace nitro
