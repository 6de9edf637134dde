// SPDX-License-Identifier: Apache-2.0
#include "eif/image/layer.h"

#include <algorithm>
#include <limits>
#include <utility>

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

Result<void> visit_all(ByteStream& archive, const std::function<Result<void>(const TarEntry&)>& visit, Budget& budget) {
  TarReader reader(archive, budget);
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
  // The two digests of the same bytes must agree.
  if (!compressed && !blob.digest.empty()) NITRO_CHECK(require_digest(blob.digest, diff_id));
  return Layer(std::move(blob), std::move(diff_id), compressed);
}

Result<void> Layer::read(const std::function<Result<void>(const TarEntry& entry)>& visit, Budget& budget) const {
  if (!compressed_) {
    ExtentStream archive(blob_.content);
    return visit_all(archive, visit, budget);
  }
  Sha256 stored;
  Sha256 unpacked;
  UnpackedStream archive(blob_.content, budget, blob_.digest.empty() ? ByteSink() : into(stored), into(unpacked));
  NITRO_CHECK(visit_all(archive, visit, budget));
  // The digests include what follows the last member.
  NITRO_CHECK(archive.skip(std::numeric_limits<std::uint64_t>::max()));
  if (!blob_.digest.empty()) NITRO_CHECK(require_digest(stored.finish(), blob_.digest));
  return require_digest(unpacked.finish(), diff_id_);
}

Result<void> Layer::copy(HeldVector<Piece> pieces, int fd, Budget& budget) const {
  std::sort(pieces.begin(), pieces.end(),
            [](const Piece& a, const Piece& b) { return a.offset_bytes < b.offset_bytes; });
  Sha256 unpacked;
  UnpackedStream archive(blob_.content, budget, nullptr, into(unpacked));
  std::uint64_t position = 0;
  auto next = pieces.begin();
  HeldVector<Piece> begun(pieces.get_allocator());  // and not complete
  for (;;) {
    NITRO_TRY(const auto bytes, archive.next());
    if (bytes.empty()) break;
    const auto start = std::exchange(position, position + bytes.size());
    NITRO_CHECK(Budget::run([&]() -> Result<void> {
      for (; next != pieces.end() && next->offset_bytes < position; ++next) begun.push_back(*next);
      return {};
    }));
    for (const auto& piece : begun) {
      const auto from = std::max(start, piece.offset_bytes);
      const auto to = std::min(position, piece.offset_bytes + piece.size_bytes);
      NITRO_CHECK(pwrite_all(fd,
                             bytes.subspan(static_cast<std::size_t>(from - start), static_cast<std::size_t>(to - from)),
                             piece.target_bytes + (from - piece.offset_bytes)));
    }
    std::erase_if(begun, [position](const Piece& piece) { return piece.offset_bytes + piece.size_bytes <= position; });
  }
  NITRO_CHECK(require_digest(unpacked.finish(), diff_id_));
  if (next == pieces.end() && begun.empty()) return {};
  return fail(ErrorCode::kEifBuilding, "its archive ends inside of a file");
}

}  // namespace nitro::image
