// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "eif/image/budget.h"
#include "eif/image/extent.h"
#include "eif/image/tar.h"

namespace nitro::image {

/// Where the files of a tar archive lie. Reads the headers once; contents are found by name afterwards.
class ArchiveIndex {
 public:
  /// A compressed archive is unpacked to a scratch file first. Errors: kEifBuilding for what is no archive, is cut off,
  /// or holds more than kMaxFiles. The names are charged to `budget`.
  static Result<ArchiveIndex> read(Extent archive, Budget& budget);

  /// The file `path`; links inside the archive are followed (engines save a layer that two images share once). nullptr
  /// when missing.
  [[nodiscard]] const Extent* find(std::string_view path) const;

  /// Most files of an archive: it holds a few for each layer.
  static constexpr std::size_t kMaxFiles = 100'000;

 private:
  explicit ArchiveIndex(Budget& budget) : files_(budget), links_(budget) {}
  Result<void> add(const TarEntry& entry, const Extent& archive);

  HeldMap<HeldString, Extent> files_;
  HeldMap<HeldString, HeldString> links_;
};

}  // namespace nitro::image
