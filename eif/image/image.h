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

/// The parts of an image's configuration that matter for an enclave.
struct ImageConfig {
  std::string architecture;              ///< "amd64", "arm64", …
  std::vector<std::string> command;      ///< CMD; ENTRYPOINT if there is no CMD
  std::vector<std::string> environment;  ///< "NAME=value"
  std::string working_folder;
  std::string user;                            ///< "name", "uid:gid", …; empty: root
  std::vector<std::string> unused_entrypoint;  ///< ENTRYPOINT if there is a CMD, which alone is the command
  std::vector<std::string> layer_digests;      ///< of the uncompressed layers ("diff_ids")
};
/// Errors: kEifBuilding when the image is not for Linux, there is neither CMD nor ENTRYPOINT, or a value has the wrong
/// type.
Result<ImageConfig> parse_config(const nlohmann::ordered_json& config);

/// An image, ready to be turned into a ramdisk. Uncompressed layers are read in place, while a separate thread checks
/// their digests. Compressed ones are unpacked twice: for the names of their files, and for the contents; only what
/// goes into the ramdisk is kept unpacked.
///
/// Memory: the metadata of the files. Not thread-safe.
class Image {
 public:
  /// Kept data is charged to `budget`, which must outlive the image. Errors: kEifBuilding for anything wrong with the
  /// image, naming the layer; kFileOperation.
  static Result<Image> load(ImageSource source, Budget& budget);

  Image(Image&&) noexcept;
  Image& operator=(Image&&) noexcept;
  /// Stops the thread.
  ~Image();

  [[nodiscard]] const ImageConfig& config() const { return config_; }
  [[nodiscard]] const ImageSource& source() const { return source_; }
  /// Whether there is a file at `path`, relative to the root; symbolic links are followed.
  [[nodiscard]] bool has_file(std::string_view path) const {
    return tree_->find(path, Tree::Lookup::kFollow) != nullptr;
  }
  /// The total size of the files in all layers, in bytes, which engines call the size of an image.
  [[nodiscard]] std::uint64_t size_bytes() const { return size_bytes_; }
  /// Whether any layer is compressed. Then contents arrive in the order of the layers, not in that of the ramdisk.
  [[nodiscard]] bool is_compressed() const;

  /// Writes the user's ramdisk (see ramdisk.h) from its first byte to its last; calling this when is_compressed() is a
  /// bug. Success means that the digests of all layers were checked too; until then the bytes given to `sink` must not
  /// be trusted.
  Result<void> write_ramdisk(const ByteSink& sink) const;
  /// Writes it into `fd` (borrowed) from `offset_bytes` on, where the file must end, and returns its size. `count` is
  /// called with the bytes as they are written. Success means the same.
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
