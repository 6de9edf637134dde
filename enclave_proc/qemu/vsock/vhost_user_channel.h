// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "enclave_proc/qemu/vsock/guest_memory.h"
#include "nitro/fd.h"
#include "nitro/result.h"

namespace nitro::proc {

/// A request of the front-end and the descriptors that came with it.
struct VhostUserRequest {
  std::uint32_t type = 0;
  std::uint32_t flags = 0;
  std::vector<std::byte> payload;
  std::vector<Fd> fds;
};

/// The framing of the vhost-user protocol (QEMU, docs/interop/vhost-user.rst, "Message Specification"): requests and
/// replies on one connected Unix stream socket. A message is a header of type, flags and payload size, 32 bits each,
/// and the payload; all in native byte order. This class does not interpret requests.
///
/// The front-end is not trusted: payloads and descriptors are bounded. Never blocks.
class VhostUserChannel {
 public:
  /// SET_MEM_TABLE carries a descriptor for each region, and no request carries more.
  static constexpr std::size_t kMaxFds = GuestMemory::kMaxRegions;

  /// `socket` is non-blocking.
  explicit VhostUserChannel(Fd socket) : socket_(std::move(socket)) {}

  [[nodiscard]] int fd() const { return socket_.get(); }
  void close() { socket_.reset(); }

  enum class Received {
    kRequest,        ///< a whole request
    kPart,           ///< the rest has not arrived yet
    kNoDescriptors,  ///< descriptors are attached, but this process has none left: try again later, nothing is lost
    kHungUp,
  };
  /// Reads the next request into `request`. Errors: kEnclaveBoot for a malformed request or a failing socket.
  Result<Received> receive(VhostUserRequest& request);

  /// Errors: kEnclaveBoot, also when the front-end does not read its replies.
  Result<void> reply(std::uint32_t type, std::span<const std::byte> payload);

 private:
  // Adds at most `wanted` bytes to input_, or returns why there are none.
  Result<std::optional<Received>> read_some(std::size_t wanted);

  Fd socket_;
  std::vector<std::byte> input_;  // of the request being read: header and payload
  std::vector<Fd> input_fds_;
};

/// Describes an error of the front-end.
inline Failure vhost_user_error(std::string what) {
  return fail(ErrorCode::kEnclaveBoot, "QEMU's vhost-user connection: " + std::move(what));
}

/// Reads a number of a message, in native byte order. The bytes must exist.
template <class T>
T native(std::span<const std::byte> bytes, std::size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof value);
  return value;
}
template <class T>
void put_native(std::span<std::byte> bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

}  // namespace nitro::proc
