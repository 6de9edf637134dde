// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace nitro::proc {

/// Operations of a packet (virtio 1.2, section 5.10.6, and include/uapi/linux/virtio_vsock.h).
enum class VsockOp : std::uint16_t {
  kRequest = 1,
  kResponse = 2,
  kReset = 3,
  kShutdown = 4,
  kData = 5,  ///< VIRTIO_VSOCK_OP_RW
  kCreditUpdate = 6,
  kCreditRequest = 7,
};

/// VIRTIO_VSOCK_TYPE_STREAM, the only socket type without a feature bit (section 5.10.3).
inline constexpr std::uint16_t kVsockTypeStream = 1;

/// Flags of kShutdown: what the sender of the packet will no longer do (section 5.10.6.6).
inline constexpr std::uint32_t kVsockShutdownReceive = 1;
inline constexpr std::uint32_t kVsockShutdownSend = 2;
inline constexpr std::uint32_t kVsockShutdownBoth = 3;

/// The packet header, 44 bytes, little-endian, in this order (struct virtio_vsock_hdr, section 5.10.6).
struct VsockHeader {
  static constexpr std::size_t kSize = 44;

  std::uint64_t source_cid = 0;
  std::uint64_t destination_cid = 0;
  std::uint32_t source_port = 0;
  std::uint32_t destination_port = 0;
  std::uint32_t length = 0;  ///< bytes of payload after the header
  std::uint16_t type = kVsockTypeStream;
  std::uint16_t op = 0;
  std::uint32_t flags = 0;
  std::uint32_t buffer_size = 0;      ///< buf_alloc: the size of the sender's buffer for this connection
  std::uint32_t forwarded_count = 0;  ///< fwd_cnt: bytes that have left that buffer since the connection began

  static VsockHeader parse(std::span<const std::byte, kSize> bytes);
  [[nodiscard]] std::array<std::byte, kSize> serialize() const;

  [[nodiscard]] bool is(VsockOp operation) const { return op == static_cast<std::uint16_t>(operation); }
  /// The RST that answers this packet.
  [[nodiscard]] VsockHeader reset() const;
};

}  // namespace nitro::proc
