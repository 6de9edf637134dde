// SPDX-License-Identifier: Apache-2.0
#include "eif/image/extent.h"

#include <algorithm>
#include <vector>

#include "nitro/fd.h"

namespace nitro::image {

namespace {
constexpr std::size_t kPieceBytes = std::size_t{256} << 10;
}

Result<void> Extent::read(std::uint64_t at_bytes, std::span<std::byte> buffer) const {
  return pread_exact(file->get(), buffer, offset_bytes + at_bytes);
}

Result<void> Extent::read_all(const ByteSink& sink) const {
  std::vector<std::byte> buffer(static_cast<std::size_t>(std::min<std::uint64_t>(size_bytes, kPieceBytes)));
  for (std::uint64_t at = 0; at < size_bytes;) {
    const auto piece =
        std::span(buffer).first(static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), size_bytes - at)));
    NITRO_CHECK(read(at, piece));
    NITRO_CHECK(sink(piece));
    at += piece.size();
  }
  return {};
}

Result<std::string> Extent::text(std::size_t limit_bytes) const {
  if (size_bytes > limit_bytes) {
    return fail(ErrorCode::kEifBuilding, "it is " + std::to_string(size_bytes) + " bytes long, more than the " +
                                             std::to_string(limit_bytes) + " that are read");
  }
  std::string content(static_cast<std::size_t>(size_bytes), '\0');
  NITRO_CHECK(read(0, std::as_writable_bytes(std::span(content.data(), content.size()))));
  return content;
}

Result<Extent> open_extent(const std::string& path) {
  NITRO_TRY(Fd fd, open_regular_file(path));
  NITRO_TRY(const auto size_bytes, file_size(fd.get()));
  return Extent{std::make_shared<const Fd>(std::move(fd)), 0, size_bytes};
}

}  // namespace nitro::image
