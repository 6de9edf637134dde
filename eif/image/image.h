// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "eif/image/layer.h"
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
  std::string user;                            ///< "name", "uid:gid", …; empty: root
  std::vector<std::string> unused_entrypoint;  ///< ENTRYPOINT beside a CMD, which alone is the command
  std::vector<std::string> layer_digests;      ///< of the uncompressed layers ("diff_ids")
};
/// Errors: kEifBuilding when the image is not for Linux, there is neither CMD nor ENTRYPOINT, or a value has another
/// type than it must.
Result<ImageConfig> parse_config(const nlohmann::ordered_json& config);

/// An image, ready to become a ramdisk. Uncompressed layers are read where they are, and a thread of its own checks
/// their digests meanwhile. Compressed ones are unpacked twice: for the names of their files, and for the contents;
/// nothing unpacked is kept but what goes into the ramdisk.
///
/// Memory: the metadata of the files. One thread at a time.
class Image {
 public:
  /// Errors: kEifBuilding for anything wrong with the image, the message names the layer; kFileOperation.
  /// What is kept is charged to `budget`, which has to outlive the image.
  static Result<Image> load(ImageSource source, Budget& budget);

  Image(Image&&) noexcept;
  Image& operator=(Image&&) noexcept;
  /// Stops the thread.
  ~Image();

  [[nodiscard]] const ImageConfig& config() const { return config_; }
  [[nodiscard]] const ImageSource& source() const { return source_; }
  /// Whether there is a file at `path`, from the root; symbolic links are followed.
  [[nodiscard]] bool has_file(std::string_view path) const {
    return tree_->find(path, Tree::Lookup::kFollow) != nullptr;
  }
  /// Bytes of all files in all layers, which is what engines call the size of an image.
  [[nodiscard]] std::uint64_t size_bytes() const { return size_bytes_; }
  /// Whether any layer is compressed. Contents then arrive in the order of the layers, not in that of the ramdisk.
  [[nodiscard]] bool is_compressed() const;

  /// Writes the user's ramdisk (see ramdisk.h), from its first byte to its last; a bug when is_compressed(). Success
  /// means that the digests of all layers have been checked, too; until then what `sink` was given must not be trusted.
  Result<void> write_ramdisk(const ByteSink& sink) const;
  /// Writes it into `fd` (borrowed) from `offset_bytes` on, where the file must have ended, and returns its size.
  /// `count` hears of bytes as they are written. Success means the same.
  Result<std::uint64_t> place_ramdisk(int fd, std::uint64_t offset_bytes,
                                      const std::function<void(std::uint64_t bytes)>& count) const;

 private:
  class Verification;

  explicit Image(Budget& budget);
  Result<void> load_layer(const Layer& layer);

  Budget* budget_;
  ImageSource source_;
  ImageConfig config_;
  std::vector<Layer> layers_;
  std::unique_ptr<Tree> tree_;
  std::uint64_t size_bytes_ = 0;
  std::unique_ptr<Verification> verification_;
};

}  // namespace nitro::image
