// SPDX-License-Identifier: Apache-2.0
// The way of a container image: from an archive through manifest, layers and tree into a ramdisk, an enclave image, and
// its description. The input is a recipe of an archive (image_recipe.h), which may also be the archive itself.
//
// Either it ends with an error that says something, or the image that was built is whole: it is described without an
// error and as it was built, a second build by another way measures the same, and the ramdisk holds the files of the
// merged layers with their contents.

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "eif/image/decompress.h"
#include "eif/image/image.h"
#include "eif/image/inspection.h"
#include "eif/image/open.h"
#include "eif/image/ramdisk.h"
#include "eif/image/surprises.h"
#include "nitro/eif/describe_json.h"
#include "nitro/eif/writer.h"
#include "src/base/bytes.h"
#include "src/base/utf8.h"
#include "tests/fuzz/cpio_members.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/image_extent.h"
#include "tests/fuzz/image_recipe.h"

namespace {

using nitro::ByteSink;
using nitro::ErrorCode;
using nitro::Fd;
using nitro::Result;
using nitro::fuzz::CpioFile;
using nitro::fuzz::extent_of;
using nitro::fuzz::require;
namespace eif = nitro::eif;
namespace image = nitro::image;

constexpr std::string_view kKernel = "kernel";
constexpr std::string_view kCommandLine = "reboot=k";
constexpr std::string_view kInit = "init";
// Holes of sparse files take no bytes of an input; what is larger is not worth the time.
constexpr std::uint64_t kMaxRamdiskBytes = std::uint64_t{2} << 20;

// A file in memory, of which the next input makes another.
class Scratch {
 public:
  [[nodiscard]] int fd() const { return file_.get(); }
  [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(fd()); }
  void hold(std::string_view bytes) const {
    require(::ftruncate(fd(), 0) == 0);
    require(nitro::pwrite_all(fd(), nitro::as_bytes(bytes), 0).has_value());
  }
  [[nodiscard]] std::string part(std::uint64_t offset, std::uint64_t size) const {
    std::string bytes(static_cast<std::size_t>(size), '\0');
    require(nitro::pread_exact(fd(), std::as_writable_bytes(std::span(bytes)), offset).has_value());
    return bytes;
  }

 private:
  Fd file_{::memfd_create("fuzz", MFD_CLOEXEC)};
};

// One sentence about the input, and nothing that a terminal would obey.
void check(const nitro::Error& error) {
  require(error.code() == ErrorCode::kEifBuilding || error.code() == ErrorCode::kDockerImagePull);
  const std::string& message = error.message();
  require(!message.empty() && !message.starts_with(':') && !message.ends_with(' '));
  require(nitro::is_plain_text(message));
}

void append(std::string& to, std::span<const std::byte> bytes) {
  to += nitro::as_text(bytes);
}

// A layer's archive, unpacked; contents are compared with it.
std::string unpacked(const image::Layer& layer, const image::Extent& blob, image::Budget& budget) {
  if (!layer.is_compressed()) {
    auto text = layer.content().text(std::size_t{1} << 30);
    require(text.has_value());
    return *std::move(text);
  }
  std::string bytes;
  image::UnpackedStream stream(blob, budget);
  for (;;) {
    const auto piece = stream.next();
    require(piece.has_value());
    if (piece->empty()) return bytes;
    append(bytes, *piece);
  }
}

constexpr std::uint32_t type_bits(image::FileType type) {
  switch (type) {
    case image::FileType::kRegular:
      return 0100000;
    case image::FileType::kDirectory:
      return 0040000;
    case image::FileType::kSymlink:
      return 0120000;
    case image::FileType::kCharDevice:
      return 0020000;
    case image::FileType::kBlockDevice:
      return 0060000;
    case image::FileType::kFifo:
      return 0010000;
  }
  return 0;
}

std::string content_of(const image::Tree::Visit& file, const std::vector<std::string>& archives) {
  const auto& inode = file.inode;
  if (inode.type == image::FileType::kSymlink) return std::string(file.link_target);
  if (inode.type != image::FileType::kRegular || inode.size_bytes == 0) return {};
  const std::string& archive = archives.at(inode.layer);
  if (file.regions == nullptr) return archive.substr(inode.data_offset_bytes, inode.size_bytes);
  std::string content(inode.size_bytes, '\0');
  auto stored = inode.data_offset_bytes;
  for (const auto& region : *file.regions) {
    content.replace(region.offset_bytes, region.size_bytes, archive, stored, region.size_bytes);
    stored += region.size_bytes;
  }
  return content;
}

// Whether a link in the folder of `name` leads to `target`, as far as their texts tell.
bool leads_to(std::string_view name, std::string_view text, std::string_view target) {
  const auto slash = name.rfind('/');
  std::string folder(slash == std::string_view::npos ? "" : name.substr(0, slash));
  while (text.starts_with("../")) {
    if (folder.empty()) return false;
    const auto above = folder.rfind('/');
    folder = above == std::string::npos ? "" : folder.substr(0, above);
    text.remove_prefix(3);
  }
  return (folder.empty() ? "" : folder + "/") + std::string(text) == target;
}

// The files of the layers, merged once more, are the members of the ramdisk, in this order.
void check_ramdisk(const std::string& ramdisk, const image::Image& built) {
  const auto files = nitro::fuzz::read_cpio(ramdisk);
  image::Budget budget;
  image::Tree tree(budget);
  std::vector<std::string> archives;
  for (std::size_t i = 0; i < built.source().layers.size(); ++i) {
    const auto& blob = built.source().layers[i];
    const auto layer = image::Layer::open(blob, built.config().layer_digests.at(i));
    require(layer.has_value());
    tree.begin_layer();
    require(layer->read([&tree](const image::TarEntry& entry) { return tree.apply(entry); }, budget).has_value());
    archives.push_back(unpacked(*layer, blob.content, budget));
  }
  require(image::add_container_files(tree, built.config().working_folder).has_value());

  std::size_t next = 0;
  const auto take = [&]() -> const CpioFile& {
    require(next < files.size());
    return files[next++];
  };
  const auto take_folder = [&](std::string_view name) {
    const auto& folder = take();
    require(folder.name == name && folder.mode == 0040755 && folder.content.empty());
  };
  take_folder("rootfs");
  bool hosts = false;
  bool resolv_conf = false;
  bool mtab = false;
  const auto walked = tree.walk([&](const image::Tree::Visit& file) -> Result<void> {
    const auto& inode = file.inode;
    const bool folder = inode.type == image::FileType::kDirectory;
    constexpr std::array<std::string_view, 4> kLeftOut{".dockerenv", "Dockerfile", "dev/console", "etc/hostname"};
    if (!folder && std::find(kLeftOut.begin(), kLeftOut.end(), file.path) != kLeftOut.end()) return {};
    const auto& member = take();
    require(member.name == "rootfs/" + std::string(file.path) + (folder ? "/" : ""));
    require((member.mode & 07777U) == inode.mode && member.uid == inode.uid && member.gid == inode.gid);
    require(member.device_major == inode.device_major && member.device_minor == inode.device_minor);
    if (!folder && file.path == "etc/hosts") {
      hosts = true;
      require(member.content.starts_with("127.0.0.1 "));
      return {};
    }
    if (!folder && file.path == "etc/resolv.conf") {
      resolv_conf = true;
      require((member.mode & 0170000U) == 0120000U && member.content == "/run/resolvconf/resolv.conf");
      return {};
    }
    mtab = mtab || (!folder && file.path == "etc/mtab");
    if (!file.first_name.empty()) {
      require((member.mode & 0170000U) == 0120000U && leads_to(file.path, member.content, file.first_name));
      return {};
    }
    require((member.mode & 0170000U) == type_bits(inode.type));
    require(member.content == content_of(file, archives));
    return {};
  });
  require(walked.has_value());
  for (const auto& [seen, name] : {std::pair(hosts, "rootfs/etc/hosts"), std::pair(mtab, "rootfs/etc/mtab"),
                                   std::pair(resolv_conf, "rootfs/etc/resolv.conf")}) {
    if (!seen) require(take().name == name);
  }
  for (const char* name :
       {"rootfs", "rootfs/dev", "rootfs/run", "rootfs/sys", "rootfs/var", "rootfs/proc", "rootfs/tmp"}) {
    take_folder(name);
  }
  for (const auto& [name, words] :
       {std::pair("cmd", built.config().command), std::pair("env", built.config().environment)}) {
    std::string lines;
    for (const auto& word : words) lines += word + "\n";
    const auto& member = take();
    require(member.name == name && member.mode == 0100644 && member.content == lines);
  }
  require(next == files.size());
}

enum class Way { kAsBuildEnclave, kInPlace };

// The steps of build-enclave, from the name of the image to its measurements. Nothing when the image is larger than is
// worth it.
Result<std::optional<eif::Measurements>> build(const nitro::fuzz::ImageArchive& archive, const std::string& name,
                                               Way way, int output, eif::Metadata& metadata, image::Budget& budget) {
  static const auto init = extent_of(kInit);
  static const Scratch ramdisk;
  const image::SourceOptions options{archive.architecture};
  NITRO_TRY(const auto reference, image::parse_reference(name));
  NITRO_TRY(auto source, image::open_image(reference, options, budget, [](std::string_view) {}));
  NITRO_TRY(const auto loaded, image::Image::load(std::move(source), budget));
  for (const auto& surprise :
       image::surprises_in(loaded.config(), [&loaded](const auto& path) { return loaded.has_file(path); })) {
    require(!surprise.empty());
  }
  metadata.docker_info =
      image::describe_image(loaded, way == Way::kAsBuildEnclave ? image::Describer::kEngine : image::Describer::kImage);

  ramdisk.hold({});
  NITRO_TRY(const auto size, loaded.place_ramdisk(ramdisk.fd(), 0, nullptr));
  if (size > kMaxRamdiskBytes) return std::optional<eif::Measurements>();

  NITRO_TRY(auto writer, eif::Writer::create(output));
  NITRO_CHECK(writer.add_kernel(eif::from_bytes(nitro::as_bytes(kKernel))));
  NITRO_CHECK(writer.add_cmdline(kCommandLine));
  NITRO_CHECK(writer.add_metadata(metadata));
  NITRO_CHECK(writer.add_ramdisk(
      [](const ByteSink& sink) { return image::write_bootstrap_ramdisk(init, std::nullopt, sink); }));
  if (way == Way::kInPlace || loaded.is_compressed()) {
    NITRO_CHECK(writer.add_ramdisk_in_place(
        [&loaded](int fd, std::uint64_t offset) { return loaded.place_ramdisk(fd, offset, nullptr); }));
  } else {
    NITRO_CHECK(writer.add_ramdisk([&loaded](const ByteSink& sink) { return loaded.write_ramdisk(sink); }));
  }
  NITRO_TRY(auto measurements, writer.finish());
  if (way == Way::kAsBuildEnclave) check_ramdisk(ramdisk.part(0, size), loaded);
  return std::optional(std::move(measurements));
}

eif::Pcr measured(std::string_view first, std::string_view second) {
  auto pcr = eif::measure_bytes(nitro::as_bytes(std::string(first) + std::string(second)));
  require(pcr.has_value());
  return *std::move(pcr);
}

// What was written is read as it was meant.
void check_file(const Scratch& output, const eif::Measurements& built, const eif::Metadata& metadata) {
  const auto reader = eif::Reader::open(Fd(::dup(output.fd())), "x.eif");
  require(reader.has_value());
  const auto description = reader->describe();
  require(description && description->crc_ok && !description->signature);
  require(description->measurements == built);
  require(description->metadata && *description->metadata == metadata);
  require(!eif::json_text(eif::to_json(*description)).empty());

  std::vector<std::string> ramdisks;
  for (const auto& section : reader->sections()) {
    if (section.type == eif::SectionType::kRamdisk) {
      ramdisks.push_back(output.part(section.offset_bytes, section.size_bytes));
    }
  }
  require(ramdisks.size() == 2);
  const auto boot = std::string(kKernel) + std::string(kCommandLine) + ramdisks[0];
  require(built.pcr0 == measured(boot, ramdisks[1]));
  require(built.pcr1 == measured(boot, {}));
  require(built.pcr2 == measured({}, ramdisks[1]));
  const auto files = nitro::fuzz::read_cpio(ramdisks[0]);
  require(files.size() == 2 && files[0].name == "dev" && files[1].name == "init" && files[1].content == kInit);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Scratch input;
  static const Scratch output;
  const auto archive = nitro::fuzz::archive_of(nitro::as_text(std::as_bytes(std::span(data, size))));
  input.hold(archive.bytes);
  const auto name = std::string(archive.oci ? "oci-archive:" : "docker-archive:") + input.path() +
                    (archive.wanted.empty() ? "" : ":" + archive.wanted);
  std::optional<eif::Measurements> first;
  for (const auto way : {Way::kAsBuildEnclave, Way::kInPlace}) {
    eif::Metadata metadata;
    metadata.image_name = "app";
    image::Budget budget;
    const auto built = build(archive, name, way, output.fd(), metadata, budget);
    require(budget.used_bytes() == 0);
    if (!built) {
      check(built.error());
      require(!first);
      return 0;
    }
    if (!*built) return 0;
    check_file(output, **built, metadata);
    require(!first || *first == **built);
    first = **built;
  }
  return 0;
}
