// SPDX-License-Identifier: Apache-2.0
#include "eif/image/byte_stream.h"

#include <algorithm>

namespace nitro::image {

Result<std::size_t> ExtentStream::read(std::span<std::byte> buffer) {
  const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), extent_.size_bytes - position_));
  NITRO_CHECK(extent_.read(position_, buffer.first(size)));
  position_ += size;
  return size;
}

Result<std::uint64_t> ExtentStream::skip(std::uint64_t size_bytes) {
  const auto size = std::min(size_bytes, extent_.size_bytes - position_);
  position_ += size;
  return size;
}

}  // namespace nitro::image
