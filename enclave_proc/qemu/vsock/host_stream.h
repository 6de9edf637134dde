// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "enclave_proc/qemu/vsock/byte_ring.h"
#include "nitro/fd.h"

namespace nitro::proc {

/// The longest list of pieces that readv(2) and writev(2) take (IOV_MAX).
inline constexpr std::size_t kMaxPieces = 1024;

/// The host program's end of a vsock connection: a stream socket, and the bytes of the guest that it did not take yet.
/// Passive and without a callback of its own: the caller watches the socket and calls flush() when it is writable.
class HostStream {
 public:
  /// `buffer_bytes` is how much is kept for a program that does not read.
  explicit HostStream(std::size_t buffer_bytes) : buffer_(buffer_bytes) {}

  void connect(Fd socket) { socket_ = std::move(socket); }
  [[nodiscard]] int fd() const { return socket_.get(); }

  struct Written {
    std::size_t bytes = 0;  ///< that have left for the socket, kept ones included
    bool failed = false;    ///< the socket takes nothing any more; what was kept is dropped
  };
  /// Writes what the socket takes and keeps the rest. There must be room: buffered_bytes() plus the size of `pieces` is
  /// at most the size of the buffer. `pieces` are used up.
  Written write(std::vector<iovec>& pieces);
  /// Writes what was kept.
  Written flush();
  [[nodiscard]] std::size_t buffered_bytes() const { return buffer_.size(); }
  /// Drops what was kept.
  void drop() { buffer_.release(); }

  enum class Got { kBytes, kNothingNow, kEnd, kFailed };
  struct Read {
    Got got = Got::kNothingNow;
    std::size_t bytes = 0;
  };
  /// Reads into `pieces`, at most kMaxPieces. Fewer bytes than there is room for do not mean that the socket is empty:
  /// a read ends at a message with descriptors, and those are never taken (unix(7), SCM_RIGHTS).
  [[nodiscard]] Read read(std::vector<iovec>& pieces) const;

  /// The guest reads no more: the program's writes fail with EPIPE.
  void stop_reading() const;
  /// The guest writes no more: the program reads its end as soon as it has read what was kept.
  void finish();

 private:
  void finish_when_empty();

  Fd socket_;
  ByteRing buffer_;
  bool finishing_ = false;
};

/// Forgets the first `count` bytes of `pieces`.
void drop_front(std::vector<iovec>& pieces, std::size_t count);

}  // namespace nitro::proc
