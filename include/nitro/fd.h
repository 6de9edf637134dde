// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "nitro/result.h"

namespace nitro {

/// Owns one file descriptor and closes it once. -1 means none. A borrowed descriptor is passed as int, an owned one as
/// Fd.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd();

  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] bool valid() const { return fd_ >= 0; }
  explicit operator bool() const { return valid(); }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  void reset() { *this = Fd(); }

 private:
  int fd_ = -1;
};

/// open(2) with O_CLOEXEC. `mode` matters with O_CREAT or O_TMPFILE only. Errors: `code`, the message names the path
/// quoted.
Result<Fd> open_file(const std::string& path, int flags, unsigned mode = 0, ErrorCode code = ErrorCode::kFileOperation);

/// Opens a regular file for reading. Anything else is an error at once: no FIFO is waited for, and nothing is read
/// without end. Errors: kFileOperation; the message says what kind of file it is.
Result<Fd> open_regular_file(const std::string& path);

/// Opens /dev/null on those of the descriptors 0, 1 and 2 that are closed, so that no file of ours gets such a number
/// and, with it, what is printed. For the start of a program. Errors: kFileOperation.
Result<void> open_standard_descriptors();

/// Size in bytes of what `fd` refers to (fstat).
Result<std::uint64_t> file_size(int fd);

/// Reads until `buffer` is full or the stream ends; returns the bytes read. EINTR is retried. `fd` must be blocking.
Result<std::size_t> read_full(int fd, std::span<std::byte> buffer);
/// As read_full; an end before the buffer is full is an error (kFileOperation).
Result<void> read_exact(int fd, std::span<std::byte> buffer);
/// pread(2) until `buffer` is full; an end before that is an error.
Result<void> pread_exact(int fd, std::span<std::byte> buffer, std::uint64_t offset_bytes);
/// Writes all of `bytes` to a blocking `fd`; for sockets without SIGPIPE.
Result<void> write_all(int fd, std::span<const std::byte> bytes);
/// pwrite(2) until all is written.
Result<void> pwrite_all(int fd, std::span<const std::byte> bytes, std::uint64_t offset_bytes);
/// The whole text of a small file, or of a pipe; a FIFO is waited for until it has a writer and the writer is done.
/// Errors: kFileOperation; more than `limit_bytes` is an error too.
Result<std::string> read_text_file(const std::string& path, std::size_t limit_bytes = std::size_t{16} << 20);

Result<void> set_nonblocking(int fd, bool on);
/// pipe2(2) with O_CLOEXEC: {read end, write end}.
Result<std::pair<Fd, Fd>> make_pipe();

}  // namespace nitro
