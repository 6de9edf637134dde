// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/vsock_packet.h"

#include "src/base/bytes.h"

namespace nitro::proc {

VsockHeader VsockHeader::parse(std::span<const std::byte, kSize> bytes) {
  VsockHeader header;
  header.source_cid = load_le<std::uint64_t>(bytes.subspan(0));
  header.destination_cid = load_le<std::uint64_t>(bytes.subspan(8));
  header.source_port = load_le<std::uint32_t>(bytes.subspan(16));
  header.destination_port = load_le<std::uint32_t>(bytes.subspan(20));
  header.length = load_le<std::uint32_t>(bytes.subspan(24));
  header.type = load_le<std::uint16_t>(bytes.subspan(28));
  header.op = load_le<std::uint16_t>(bytes.subspan(30));
  header.flags = load_le<std::uint32_t>(bytes.subspan(32));
  header.buffer_size = load_le<std::uint32_t>(bytes.subspan(36));
  header.forwarded_count = load_le<std::uint32_t>(bytes.subspan(40));
  return header;
}

std::array<std::byte, VsockHeader::kSize> VsockHeader::serialize() const {
  std::array<std::byte, kSize> bytes;
  const std::span<std::byte> out(bytes);
  store_le(out.subspan(0), source_cid);
  store_le(out.subspan(8), destination_cid);
  store_le(out.subspan(16), source_port);
  store_le(out.subspan(20), destination_port);
  store_le(out.subspan(24), length);
  store_le(out.subspan(28), type);
  store_le(out.subspan(30), op);
  store_le(out.subspan(32), flags);
  store_le(out.subspan(36), buffer_size);
  store_le(out.subspan(40), forwarded_count);
  return bytes;
}

VsockHeader VsockHeader::reset() const {
  VsockHeader header;
  header.source_cid = destination_cid;
  header.destination_cid = source_cid;
  header.source_port = destination_port;
  header.destination_port = source_port;
  header.type = type;
  header.op = static_cast<std::uint16_t>(VsockOp::kReset);
  return header;
}

}  // namespace nitro::proc
