// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "eif/image/budget.h"
#include "eif/image/extent.h"
#include "eif/image/tar.h"

namespace nitro::image {

/// The positions of the files in a tar archive. Reads the headers once; contents are found by name afterwards.
class ArchiveIndex {
 public:
  /// A compressed archive is first unpacked to a scratch file. The names are charged to `budget`. Errors: kEifBuilding
  /// if it is not an archive, is truncated, or holds more than kMaxFiles.
  static Result<ArchiveIndex> read(Extent archive, Budget& budget);

  /// Returns the file `path`, following links inside the archive (engines save a layer shared by two images once), or
  /// nullptr if it is missing.
  [[nodiscard]] const Extent* find(std::string_view path) const;

  /// Limit for the files of an archive, which holds a few for each layer.
  static constexpr std::size_t kMaxFiles = 100'000;

 private:
  explicit ArchiveIndex(Budget& budget) : files_(budget), links_(budget) {}
  Result<void> add(const TarEntry& entry, const Extent& archive);

  HeldMap<HeldString, Extent> files_;
  HeldMap<HeldString, HeldString> links_;
};

}  // namespace nitro::image
