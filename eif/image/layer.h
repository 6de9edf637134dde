// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "eif/image/source.h"
#include "eif/image/tar.h"

namespace nitro::image {

/// A layer of an image: a tar archive in a blob, compressed or not. A compressed one is unpacked each time it is read,
/// without storing the bytes.
class Layer {
 public:
  /// `diff_id`: digest of the uncompressed archive. Errors: kEifBuilding if the blob is not compressed and has a
  /// different digest; those of reading.
  static Result<Layer> open(LayerBlob blob, std::string diff_id);

  [[nodiscard]] bool is_compressed() const { return compressed_; }
  [[nodiscard]] const std::string& name() const { return blob_.name; }
  [[nodiscard]] const std::string& diff_id() const { return diff_id_; }
  /// Returns the archive, if it is not compressed.
  [[nodiscard]] const Extent& content() const { return blob_.content; }

  /// Visits the members of the archive. For a compressed layer, success means that its digests are right. Errors:
  /// kEifBuilding, those of `visit`.
  Result<void> read(const std::function<Result<void>(const TarEntry& entry)>& visit, Budget& budget) const;

  /// A range of the archive, and the position in a file where it is needed.
  struct Piece {
    std::uint64_t offset_bytes;
    std::uint64_t size_bytes;
    std::uint64_t target_bytes;
  };
  /// Unpacks a compressed layer and writes `pieces` to `fd` (borrowed). They may be in any order, and may overlap.
  /// Success means that every piece was written and the digest of the archive is right. Errors: kEifBuilding,
  /// kFileOperation.
  Result<void> copy(HeldVector<Piece> pieces, int fd, Budget& budget) const;

 private:
  Layer(LayerBlob blob, std::string diff_id, bool compressed)
      : blob_(std::move(blob)), diff_id_(std::move(diff_id)), compressed_(compressed) {}

  LayerBlob blob_;
  std::string diff_id_;
  bool compressed_;
};

/// Errors: kEifBuilding if the actual digest of a blob differs from the promised one.
Result<void> require_digest(const std::string& actual, const std::string& promised);

}  // namespace nitro::image
