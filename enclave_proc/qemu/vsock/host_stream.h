// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "enclave_proc/qemu/vsock/byte_ring.h"
#include "enclave_proc/qemu/vsock/pieces.h"
#include "nitro/fd.h"

namespace nitro::proc {

/// The host program's end of a vsock connection: a stream socket, and the bytes of the guest that it has not accepted
/// yet. Passive, without callbacks: the caller watches the socket and calls flush() when it is writable.
class HostStream {
 public:
  /// `buffer_bytes`: how much is kept for a program that does not read.
  explicit HostStream(std::size_t buffer_bytes) : buffer_(buffer_bytes) {}

  void connect(Fd socket) { socket_ = std::move(socket); }
  [[nodiscard]] int fd() const { return socket_.get(); }

  struct Written {
    std::size_t bytes = 0;  ///< written to the socket, including kept ones
    bool failed = false;    ///< the socket accepts nothing more; kept bytes were dropped
  };
  /// Writes what the socket accepts and keeps the rest. There must be room: buffered_bytes() plus the size of `pieces`
  /// is at most the size of the buffer. `pieces` are consumed.
  Written write(std::vector<iovec>& pieces);
  /// Writes the kept bytes.
  Written flush();
  [[nodiscard]] std::size_t buffered_bytes() const { return buffer_.size(); }
  /// Drops the kept bytes.
  void drop() { buffer_.release(); }

  enum class Got { kBytes, kNothingNow, kEnd, kFailed };
  struct Read {
    Got got = Got::kNothingNow;
    std::size_t bytes = 0;
  };
  /// Reads into `pieces`, at most kMaxPieces. A short read does not mean that the socket is empty: a read ends at a
  /// message with descriptors, which are never accepted (unix(7), SCM_RIGHTS).
  [[nodiscard]] Read read(std::vector<iovec>& pieces) const;

  /// The guest stops reading: the program's writes fail with EPIPE.
  void stop_reading() const;
  /// The guest stops writing: the program reads end-of-file once it has read the kept bytes.
  void finish();

 private:
  void finish_when_empty();

  Fd socket_;
  ByteRing buffer_;
  bool finishing_ = false;
};

}  // namespace nitro::proc
