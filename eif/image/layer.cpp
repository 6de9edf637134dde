// SPDX-License-Identifier: Apache-2.0
#include "eif/image/layer.h"

#include <algorithm>
#include <limits>

#include "eif/image/decompress.h"
#include "eif/image/digest.h"

namespace nitro::image {

namespace {

ByteSink into(Sha256& hash) {
  return [&hash](std::span<const std::byte> bytes) -> Result<void> {
    hash.update(bytes);
    return {};
  };
}

Result<void> visit_all(ByteStream& archive, const std::function<Result<void>(const TarEntry&)>& visit) {
  TarReader reader(archive);
  TarEntry entry;
  for (;;) {
    NITRO_TRY(const bool more, reader.next(entry));
    if (!more) return {};
    NITRO_CHECK(visit(entry));
  }
}

}  // namespace

Result<void> require_digest(const std::string& actual, const std::string& promised) {
  if (actual == promised) return {};
  return fail(ErrorCode::kEifBuilding,
              "its digest is " + actual + " instead of " + promised + "; the image is damaged");
}

Result<Layer> Layer::open(LayerBlob blob, std::string diff_id) {
  NITRO_TRY(const auto compression, detect_compression(blob.content));
  const bool compressed = compression != Compression::kNone;
  // The two names of the same bytes must agree.
  if (!compressed && !blob.digest.empty()) NITRO_CHECK(require_digest(blob.digest, diff_id));
  return Layer(std::move(blob), std::move(diff_id), compressed);
}

Result<void> Layer::read(const std::function<Result<void>(const TarEntry& entry)>& visit) const {
  if (!compressed_) {
    ExtentStream archive(blob_.content);
    return visit_all(archive, visit);
  }
  Sha256 stored;
  Sha256 unpacked;
  UnpackedStream archive(blob_.content, blob_.digest.empty() ? ByteSink() : into(stored), into(unpacked));
  NITRO_CHECK(visit_all(archive, visit));
  // What follows the last member belongs to the digests, too.
  NITRO_CHECK(archive.skip(std::numeric_limits<std::uint64_t>::max()));
  if (!blob_.digest.empty()) NITRO_CHECK(require_digest(stored.finish(), blob_.digest));
  return require_digest(unpacked.finish(), diff_id_);
}

Result<void> Layer::copy(std::span<const Piece> pieces, int fd) const {
  Sha256 unpacked;
  UnpackedStream archive(blob_.content, nullptr, into(unpacked));
  std::uint64_t position = 0;
  for (;;) {
    NITRO_TRY(auto bytes, archive.next());
    if (bytes.empty()) break;
    const auto end = position + bytes.size();
    while (!pieces.empty() && pieces.front().offset_bytes < end) {
      const auto& piece = pieces.front();
      const auto from = std::max(position, piece.offset_bytes);
      const auto to = std::min(end, piece.offset_bytes + piece.size_bytes);
      NITRO_CHECK(
          pwrite_all(fd, bytes.subspan(static_cast<std::size_t>(from - position), static_cast<std::size_t>(to - from)),
                     piece.target_bytes + (from - piece.offset_bytes)));
      if (to < piece.offset_bytes + piece.size_bytes) break;  // the rest is in the next bytes
      pieces = pieces.subspan(1);
    }
    position = end;
  }
  return require_digest(unpacked.finish(), diff_id_);
}

}  // namespace nitro::image
