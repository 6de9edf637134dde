// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>
#include <vector>

/// Bytes in several places, in order: the buffers of a descriptor chain, or what is left of them.
namespace nitro::proc {

/// The longest list of pieces that readv(2) and writev(2) accept (IOV_MAX).
inline constexpr std::size_t kMaxPieces = 1024;

[[nodiscard]] std::size_t total_size(std::span<const iovec> pieces);

/// Removes the first `count` bytes.
void drop_front(std::vector<iovec>& pieces, std::size_t count);
/// Keeps only the first `size` bytes.
void truncate(std::vector<iovec>& pieces, std::size_t size);

/// Copies the first bytes of `pieces` to `target`, as many as fit or are there.
void gather(std::span<const iovec> pieces, std::span<std::byte> target);
/// Copies `source` to the first bytes of `pieces`, as many as fit.
void scatter(std::span<const std::byte> source, std::span<const iovec> pieces);

}  // namespace nitro::proc
