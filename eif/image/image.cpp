// SPDX-License-Identifier: Apache-2.0
#include "eif/image/image.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <stdexcept>
#include <thread>

#include "eif/image/cpio.h"
#include "eif/image/decompress.h"
#include "eif/image/digest.h"
#include "eif/image/ramdisk.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/text.h"

namespace nitro::image {

namespace {

using Json = nlohmann::ordered_json;

// Returns a list of strings; a single string counts as a list of one. Returns nullopt if it is null or missing.
Result<std::optional<std::vector<std::string>>> words_at(const Json& json, const char* key) {
  using Words = std::optional<std::vector<std::string>>;
  const auto* found = value_at(json, key);
  if (found == nullptr) return Words();
  if (found->is_string()) return Words({found->get<std::string>()});
  const auto wrong =
      fail(ErrorCode::kEifBuilding, "\"" + std::string(key) + "\" in the configuration is not a list of strings");
  if (!found->is_array()) return wrong;
  std::vector<std::string> words;
  for (const auto& word : *found) {
    if (!word.is_string()) return wrong;
    words.push_back(word.get<std::string>());
  }
  return Words(std::move(words));
}

}  // namespace

// Computes the digests of blobs on its own thread, in the order in which they were added.
class Image::Verification {
 public:
  struct Task {
    Extent content;
    std::string digest;
    std::string name;
  };

  explicit Verification(std::vector<Task> tasks) : thread_([this, tasks = std::move(tasks)] { run(tasks); }) {}
  Verification(const Verification&) = delete;
  Verification& operator=(const Verification&) = delete;
  ~Verification() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

  Result<void> wait() {
    if (thread_.joinable()) thread_.join();
    return result_;
  }

 private:
  void run(const std::vector<Task>& tasks) {
    for (const auto& task : tasks) {
      Sha256 hash;
      auto read = task.content.read_all([&](std::span<const std::byte> bytes) -> Result<void> {
        if (stop_) return fail(ErrorCode::kEifBuilding, "the check of digests was stopped");
        hash.update(bytes);
        return {};
      });
      if (read) read = require_digest(hash.finish(), task.digest);
      if (!read) {
        result_ = fail_within("layer " + task.name, std::move(read).error());
        return;
      }
    }
  }

  std::atomic<bool> stop_ = false;
  Result<void> result_;  // read only after the join
  std::thread thread_;
};

Result<ImageConfig> parse_config(const Json& config) {
  const auto invalid = fail(ErrorCode::kEifBuilding, "the configuration does not describe an image");
  if (!config.is_object()) return invalid;
  ImageConfig parsed;
  parsed.architecture = text_at(config, "architecture");
  if (const auto system = text_at(config, "os"); !system.empty() && system != "linux") {
    return fail(ErrorCode::kEifBuilding, "the container image is made for " + quote(system) +
                                             ", but enclaves run Linux; use one for linux/amd64 or linux/arm64");
  }
  const auto* root = value_at(config, "rootfs");
  if (root == nullptr || !root->is_object()) return invalid;
  NITRO_TRY(auto digests, words_at(*root, "diff_ids"));
  if (digests) parsed.layer_digests = std::move(*digests);
  for (const auto& digest : parsed.layer_digests) {
    if (!is_sha256(digest)) {
      return fail(ErrorCode::kEifBuilding,
                  "the configuration has the layer digest " + quote(digest) + ", which is none");
    }
  }

  const auto* runtime = value_at(config, "config");
  if (runtime != nullptr && runtime->is_object()) {
    parsed.working_folder = text_at(*runtime, "WorkingDir");
    parsed.user = text_at(*runtime, "User");
    NITRO_TRY(auto environment, words_at(*runtime, "Env"));
    if (environment) parsed.environment = std::move(*environment);
    NITRO_TRY(auto command, words_at(*runtime, "Cmd"));
    auto entrypoint = words_at(*runtime, "Entrypoint");
    if (!command || command->empty()) {
      NITRO_TRY(command, std::move(entrypoint));
    } else if (entrypoint && *entrypoint) {
      parsed.unused_entrypoint = std::move(**entrypoint);
    }
    if (command && !command->empty()) {
      parsed.command = std::move(*command);
      return parsed;
    }
  }
  return fail(ErrorCode::kEifBuilding,
              "the image has neither CMD nor ENTRYPOINT, so an enclave would have nothing to run");
}

Image::Image(Budget& budget) : budget_(&budget) {}
Image::Image(Image&&) noexcept = default;
Image& Image::operator=(Image&&) noexcept = default;
Image::~Image() = default;

Result<void> Image::load_layer(const Layer& layer) {
  tree_->begin_layer();
  std::uint64_t size = 0;
  const auto apply = [&](const TarEntry& entry) -> Result<void> {
    size += entry.size_bytes;
    // Sparse files may turn a few bytes of an archive into any number of bytes of a ramdisk.
    if (size > kMaxUnpackedBytes) {
      return fail(ErrorCode::kEifBuilding, "its files are larger than " + limit_text(kMaxUnpackedBytes) +
                                               " together, which no enclave can hold");
    }
    return tree_->apply(entry);
  };
  NITRO_CHECK(layer.read(apply, *budget_));
  size_bytes_ += size;
  return {};
}

Result<Image> Image::load(ImageSource source, Budget& budget) {
  Image image(budget);
  NITRO_TRY(image.config_, parse_config(source.config));
  const auto& digests = image.config_.layer_digests;
  if (digests.size() != source.layers.size()) {
    return fail(ErrorCode::kEifBuilding, "the image has " + std::to_string(source.layers.size()) +
                                             " layers, its configuration names " + std::to_string(digests.size()));
  }
  std::vector<Verification::Task> tasks;
  for (std::size_t i = 0; i < digests.size(); ++i) {
    const auto& blob = source.layers[i];
    auto layer = Layer::open(blob, digests[i]);
    if (!layer) return fail_within("layer " + blob.name, std::move(layer).error());
    if (!layer->is_compressed()) tasks.push_back({layer->content(), digests[i], blob.name});
    image.layers_.push_back(std::move(*layer));
  }
  image.verification_ = std::make_unique<Verification>(std::move(tasks));

  image.tree_ = std::make_unique<Tree>(budget);
  for (const auto& layer : image.layers_) {
    if (auto loaded = image.load_layer(layer); !loaded) {
      return fail_within("layer " + layer.name(), std::move(loaded).error());
    }
  }
  NITRO_CHECK(add_container_files(*image.tree_, image.config_.working_folder));
  image.source_ = std::move(source);
  return image;
}

bool Image::is_compressed() const {
  return std::any_of(layers_.begin(), layers_.end(), [](const Layer& layer) { return layer.is_compressed(); });
}

Result<void> Image::write_ramdisk(const ByteSink& sink) const {
  if (is_compressed()) throw std::logic_error("nitro::image::Image::write_ramdisk: a layer is compressed");
  CpioWriter writer(sink);
  const CopyContent copy = [this](CpioWriter& to, std::uint32_t layer, std::uint64_t offset, std::uint64_t size) {
    return to.copy(layers_[layer].content().part(offset, size));
  };
  NITRO_CHECK(write_customer_ramdisk(*tree_, copy, config_.command, config_.environment, writer));
  return verification_->wait();
}

Result<std::uint64_t> Image::place_ramdisk(int fd, std::uint64_t offset_bytes,
                                           const std::function<void(std::uint64_t bytes)>& count) const {
  std::uint64_t position = offset_bytes;
  const auto advance = [&](std::uint64_t size) {
    position += size;
    if (count) count(size);
  };
  const ByteSink sink = [&](std::span<const std::byte> bytes) -> Result<void> {
    NITRO_CHECK(pwrite_all(fd, bytes, position));
    advance(bytes.size());
    return {};
  };
  const CpioWriter::Gap gap = [&](std::uint64_t size) -> Result<void> {
    advance(size);
    return {};
  };
  // First everything but the contents of compressed layers, then those contents, layer by layer.
  std::vector<HeldVector<Layer::Piece>> wanted(layers_.size(), HeldVector<Layer::Piece>(*budget_));
  CpioWriter writer(sink, gap);
  const CopyContent copy = [&](CpioWriter& to, std::uint32_t layer, std::uint64_t offset,
                               std::uint64_t size) -> Result<void> {
    if (!layers_[layer].is_compressed()) return to.copy(layers_[layer].content().part(offset, size));
    NITRO_TRY(const auto place, to.reserve(size));
    return Budget::run([&]() -> Result<void> {
      wanted[layer].push_back({offset, size, offset_bytes + place});
      return {};
    });
  };
  NITRO_CHECK(write_customer_ramdisk(*tree_, copy, config_.command, config_.environment, writer));

  for (std::size_t i = 0; i < layers_.size(); ++i) {
    if (wanted[i].empty()) continue;
    if (auto copied = layers_[i].copy(std::move(wanted[i]), fd, *budget_); !copied) {
      return fail_within("layer " + layers_[i].name(), std::move(copied).error());
    }
  }
  NITRO_CHECK(verification_->wait());
  return writer.length_bytes();
}

}  // namespace nitro::image
