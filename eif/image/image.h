// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eif/image/source.h"
#include "eif/image/tree.h"
#include "nitro/byte_sink.h"

namespace nitro::image {

/// What an image's configuration says to a builder of enclaves.
struct ImageConfig {
  std::string architecture;              ///< "amd64", "arm64", …
  std::vector<std::string> command;      ///< CMD; ENTRYPOINT when there is no CMD
  std::vector<std::string> environment;  ///< "NAME=value"
  std::string working_folder;
  std::vector<std::string> layer_digests;  ///< of the uncompressed layers ("diff_ids")
};
/// Errors: kEifBuilding when there is neither CMD nor ENTRYPOINT, or a value has another type than it must.
Result<ImageConfig> parse_config(const nlohmann::ordered_json& config);

/// An image, ready to become a ramdisk. Compressed layers have been unpacked into scratch files; their digests are
/// checked. Uncompressed ones are read where they are, and a thread of its own checks their digests meanwhile.
///
/// Memory: the metadata of the files. One thread at a time.
class Image {
 public:
  /// Errors: kEifBuilding for anything wrong with the image, the message names the layer; kFileOperation.
  static Result<Image> load(ImageSource source);

  Image(Image&&) noexcept;
  Image& operator=(Image&&) noexcept;
  /// Stops the thread.
  ~Image();

  [[nodiscard]] const ImageConfig& config() const { return config_; }
  [[nodiscard]] const ImageSource& source() const { return source_; }
  /// Bytes of all files in all layers, which is what engines call the size of an image.
  [[nodiscard]] std::uint64_t size_bytes() const { return size_bytes_; }

  /// Writes the user's ramdisk (see ramdisk.h). Success means that the digests of all layers have been checked, too;
  /// until then what `sink` was given must not be trusted.
  Result<void> write_ramdisk(const ByteSink& sink) const;

 private:
  class Verification;

  Image();
  Result<void> load_layer(const LayerBlob& blob, const std::string& diff_id);

  ImageSource source_;
  ImageConfig config_;
  std::vector<Extent> layers_;  // uncompressed
  std::unique_ptr<Tree> tree_;
  std::uint64_t size_bytes_ = 0;
  std::unique_ptr<Verification> verification_;
};

}  // namespace nitro::image
