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

/// open(2) with O_CLOEXEC. `mode` only matters with O_CREAT or O_TMPFILE. Errors: `code`; the message quotes the path.
Result<Fd> open_file(const std::string& path, int flags, unsigned mode = 0, ErrorCode code = ErrorCode::kFileOperation);

/// Opens a regular file for reading. Fails at once for anything else, so it neither waits for a FIFO nor reads without
/// end. Errors: kFileOperation; the message says what kind of file it is.
Result<Fd> open_regular_file(const std::string& path);

/// Opens /dev/null on those of the descriptors 0, 1 and 2 that are closed, so that no file of ours can get such a
/// number and receive printed output. Call it at the start of a program. Errors: kFileOperation.
Result<void> open_standard_descriptors();

/// Returns the size in bytes of the file behind `fd` (fstat).
Result<std::uint64_t> file_size(int fd);

/// Reads until `buffer` is full or the stream ends; returns the number of bytes read. Retries on EINTR. `fd` must be
/// blocking.
Result<std::size_t> read_full(int fd, std::span<std::byte> buffer);
/// Like read_full, but an end before the buffer is full is an error (kFileOperation).
Result<void> read_exact(int fd, std::span<std::byte> buffer);
/// pread(2) until `buffer` is full; an end before that is an error.
Result<void> pread_exact(int fd, std::span<std::byte> buffer, std::uint64_t offset_bytes);
/// Writes all of `bytes` to a blocking `fd`; on sockets without SIGPIPE.
Result<void> write_all(int fd, std::span<const std::byte> bytes);
/// pwrite(2) until everything is written.
Result<void> pwrite_all(int fd, std::span<const std::byte> bytes, std::uint64_t offset_bytes);
/// Returns the whole text of a small file or a pipe; for a FIFO, waits until a writer has opened it and finished.
/// Errors: kFileOperation, also for more than `limit_bytes`.
Result<std::string> read_text_file(const std::string& path, std::size_t limit_bytes = std::size_t{16} << 20);

Result<void> set_nonblocking(int fd, bool on);
/// pipe2(2) with O_CLOEXEC: {read end, write end}.
Result<std::pair<Fd, Fd>> make_pipe();

}  // namespace nitro
