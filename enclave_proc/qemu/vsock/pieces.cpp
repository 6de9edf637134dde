// SPDX-License-Identifier: Apache-2.0
#include "enclave_proc/qemu/vsock/pieces.h"

#include <algorithm>
#include <cstring>

namespace nitro::proc {

std::size_t total_size(std::span<const iovec> pieces) {
  std::size_t sum = 0;
  for (const iovec& piece : pieces) sum += piece.iov_len;
  return sum;
}

void drop_front(std::vector<iovec>& pieces, std::size_t count) {
  auto piece = pieces.begin();
  while (piece != pieces.end()) {
    const std::size_t here = std::min(count, piece->iov_len);
    piece->iov_base = static_cast<std::byte*>(piece->iov_base) + here;
    piece->iov_len -= here;
    count -= here;
    if (piece->iov_len > 0) break;
    ++piece;
  }
  pieces.erase(pieces.begin(), piece);
}

void truncate(std::vector<iovec>& pieces, std::size_t size) {
  for (auto piece = pieces.begin(); piece != pieces.end(); ++piece) {
    if (size <= piece->iov_len) {
      piece->iov_len = size;
      pieces.erase(size == 0 ? piece : piece + 1, pieces.end());
      return;
    }
    size -= piece->iov_len;
  }
}

void gather(std::span<const iovec> pieces, std::span<std::byte> target) {
  for (const iovec& piece : pieces) {
    const std::size_t here = std::min(piece.iov_len, target.size());
    // memcpy takes no null pointers, not even for no bytes.
    if (here > 0) std::memcpy(target.data(), piece.iov_base, here);
    target = target.subspan(here);
    if (target.empty()) return;
  }
}

void scatter(std::span<const std::byte> source, std::span<const iovec> pieces) {
  for (const iovec& piece : pieces) {
    const std::size_t here = std::min(piece.iov_len, source.size());
    if (here > 0) std::memcpy(piece.iov_base, source.data(), here);
    source = source.subspan(here);
    if (source.empty()) return;
  }
}

}  // namespace nitro::proc
