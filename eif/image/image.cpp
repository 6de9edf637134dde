// SPDX-License-Identifier: Apache-2.0
#include "eif/image/image.h"

#include <atomic>
#include <optional>
#include <thread>

#include "eif/image/decompress.h"
#include "eif/image/digest.h"
#include "eif/image/ramdisk.h"
#include "nitro/bytes.h"
#include "nitro/output_file.h"

namespace nitro::image {

namespace {

using Json = nlohmann::ordered_json;

// A list of strings, or a string alone, which stands for a list of one. Nothing when it is null or missing.
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

Result<void> compare(const std::string& actual, const std::string& promised) {
  if (actual == promised) return {};
  return fail(ErrorCode::kEifBuilding,
              "its digest is " + actual + " instead of " + promised + "; the image is damaged");
}

}  // namespace

// Computes the digests of blobs on a thread of its own, in the order they were added.
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
      if (read) read = compare(hash.finish(), task.digest);
      if (!read) {
        result_ = fail_within("layer " + task.name, std::move(read).error());
        return;
      }
    }
  }

  std::atomic<bool> stop_ = false;
  Result<void> result_;  // read after the join only
  std::thread thread_;
};

Result<ImageConfig> parse_config(const Json& config) {
  const auto invalid = fail(ErrorCode::kEifBuilding, "the configuration does not describe an image");
  if (!config.is_object()) return invalid;
  ImageConfig parsed;
  parsed.architecture = text_at(config, "architecture");
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
    NITRO_TRY(auto environment, words_at(*runtime, "Env"));
    if (environment) parsed.environment = std::move(*environment);
    NITRO_TRY(auto command, words_at(*runtime, "Cmd"));
    if (!command) {
      NITRO_TRY(command, words_at(*runtime, "Entrypoint"));
    }
    if (command) {
      parsed.command = std::move(*command);
      return parsed;
    }
  }
  return fail(ErrorCode::kEifBuilding,
              "the image has neither CMD nor ENTRYPOINT, so an enclave would have nothing to run");
}

Image::Image() = default;
Image::Image(Image&&) noexcept = default;
Image& Image::operator=(Image&&) noexcept = default;
Image::~Image() = default;

Result<void> Image::load_layer(const LayerBlob& blob, const std::string& diff_id) {
  Extent content = blob.content;
  NITRO_TRY(const auto compression, detect_compression(content));
  if (compression != Compression::kNone) {
    NITRO_TRY(Fd scratch, make_scratch_file());
    Sha256 stored;
    Sha256 unpacked;
    std::uint64_t size = 0;
    NITRO_CHECK(decompress(
        content,
        [&](std::span<const std::byte> bytes) {
          unpacked.update(bytes);
          size += bytes.size();
          return write_all(scratch.get(), bytes);
        },
        [&](std::span<const std::byte> bytes) -> Result<void> {
          if (!blob.digest.empty()) stored.update(bytes);
          return {};
        }));
    if (!blob.digest.empty()) NITRO_CHECK(compare(stored.finish(), blob.digest));
    NITRO_CHECK(compare(unpacked.finish(), diff_id));
    content = Extent{std::make_shared<const Fd>(std::move(scratch)), 0, size};
  } else if (!blob.digest.empty()) {
    // The two names of the same bytes must agree; the bytes themselves are checked by the other thread.
    NITRO_CHECK(compare(blob.digest, diff_id));
  }

  tree_->begin_layer();
  TarReader reader(content);
  TarEntry entry;
  for (;;) {
    NITRO_TRY(const bool more, reader.next(entry));
    if (!more) break;
    size_bytes_ += entry.size_bytes;
    NITRO_CHECK(tree_->apply(entry));
  }
  layers_.push_back(std::move(content));
  return {};
}

Result<Image> Image::load(ImageSource source) {
  Image image;
  NITRO_TRY(image.config_, parse_config(source.config));
  const auto& digests = image.config_.layer_digests;
  if (digests.size() != source.layers.size()) {
    return fail(ErrorCode::kEifBuilding, "the image has " + std::to_string(source.layers.size()) +
                                             " layers, its configuration names " + std::to_string(digests.size()));
  }
  std::vector<Verification::Task> tasks;
  for (std::size_t i = 0; i < digests.size(); ++i) {
    const auto& layer = source.layers[i];
    NITRO_TRY(const auto compression, detect_compression(layer.content));
    if (compression == Compression::kNone) tasks.push_back({layer.content, digests[i], layer.name});
  }
  image.verification_ = std::make_unique<Verification>(std::move(tasks));

  image.tree_ = std::make_unique<Tree>();
  for (std::size_t i = 0; i < digests.size(); ++i) {
    if (auto loaded = image.load_layer(source.layers[i], digests[i]); !loaded) {
      return fail_within("layer " + source.layers[i].name, std::move(loaded).error());
    }
  }
  NITRO_CHECK(add_container_files(*image.tree_, image.config_.working_folder));
  image.source_ = std::move(source);
  return image;
}

Result<void> Image::write_ramdisk(const ByteSink& sink) const {
  NITRO_CHECK(write_customer_ramdisk(*tree_, layers_, config_.command, config_.environment, sink));
  return verification_->wait();
}

}  // namespace nitro::image
