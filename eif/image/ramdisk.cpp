// SPDX-License-Identifier: Apache-2.0
#include "eif/image/ramdisk.h"

#include <algorithm>
#include <array>
#include <set>

#include "eif/image/cpio.h"
#include "src/base/bytes.h"

namespace nitro::image {

namespace {

constexpr std::string_view kPrefix = "rootfs/";

// Files that belong to the engine, not to the image (linuxkit: exclude). Folders of these names belong to the image.
constexpr std::array<std::string_view, 4> kLeftOut{".dockerenv", "Dockerfile", "dev/console", "etc/hostname"};

constexpr std::string_view kHosts =
    "127.0.0.1       localhost\n"
    "::1     localhost ip6-localhost ip6-loopback\n"
    "fe00::0 ip6-localnet\n"
    "ff00::0 ip6-mcastprefix\n"
    "ff02::1 ip6-allnodes\n"
    "ff02::2 ip6-allrouters\n";
// /run is writable, so that whatever configures the network can put its name servers there.
constexpr std::string_view kResolvConfTarget = "/run/resolvconf/resolv.conf";
constexpr std::string_view kMtabTarget = "/proc/mounts";

// The mount points among the files that must exist (linuxkit: touch). add_container_files() has created them; here they
// only get their times, as the engine creates them anew for every container. Names of folders end in '/', as in an
// export.
constexpr std::array<std::string_view, 6> kMountPoints{"dev/", "dev/pts/", "dev/shm/", "etc/", "proc/", "sys/"};

// Returns the text of the symbolic link `name` that leads to `target`; both are normalized relative paths.
std::string relative_target(std::string_view name, std::string_view target) {
  std::size_t common = 0;  // length of the common folders, including the last slash
  for (std::size_t i = 0; i < std::min(name.size(), target.size()) && name[i] == target[i]; ++i) {
    if (name[i] == '/') common = i + 1;
  }
  std::string path;
  for (const char c : name.substr(common)) {
    if (c == '/') path += "../";
  }
  path += target.substr(common);
  return path;
}

Result<void> add_text(CpioWriter& writer, CpioMember member, std::string_view content) {
  member.size_bytes = content.size();
  NITRO_CHECK(writer.begin(member));
  return writer.write(as_bytes(content));
}

Result<void> add_folder(CpioWriter& writer, std::string_view name) {
  return writer.begin({.name = name, .type = FileType::kDirectory, .mode = 0755, .mtime = kFixedTime});
}

// Turns the files of the container into members below rootfs/.
class RootfsWriter {
 public:
  RootfsWriter(CpioWriter& writer, const CopyContent& copy) : writer_(writer), copy_(copy) {}

  Result<void> add(const Tree::Visit& file) {
    const Inode& inode = file.inode;
    name_ = kPrefix;
    name_ += file.path;
    if (inode.type == FileType::kDirectory) name_ += '/';
    const auto path = std::string_view(name_).substr(kPrefix.size());

    CpioMember member{.name = name_,
                      .type = inode.type,
                      .mode = inode.mode,
                      .uid = inode.uid,
                      .gid = inode.gid,
                      .mtime = inode.mtime,
                      .device_major = inode.device_major,
                      .device_minor = inode.device_minor};
    if (std::find(kLeftOut.begin(), kLeftOut.end(), path) != kLeftOut.end()) return {};
    if (std::find(kMountPoints.begin(), kMountPoints.end(), path) != kMountPoints.end()) member.mtime = kFixedTime;
    if (path == "etc/hosts") {
      hosts_seen_ = true;
      member.mtime = kFixedTime;
      return add_text(writer_, member, kHosts);
    }
    if (path == "etc/resolv.conf") {
      resolv_conf_seen_ = true;
      member.mtime = kFixedTime;
      member.type = FileType::kSymlink;
      return add_text(writer_, member, kResolvConfTarget);
    }
    if (path == "etc/mtab") {
      mtab_seen_ = true;
      member.mtime = kFixedTime;
    }
    if (!file.first_name.empty()) {
      // This ramdisk has no hard links: the second name is a symbolic link to the first.
      member.type = FileType::kSymlink;
      return add_text(writer_, member, relative_target(file.path, file.first_name));
    }
    if (inode.type == FileType::kSymlink) return add_text(writer_, member, file.link_target);
    if (inode.type != FileType::kRegular) return writer_.begin(member);
    member.size_bytes = inode.size_bytes;
    NITRO_CHECK(writer_.begin(member));
    if (file.regions != nullptr) return add_sparse(inode, *file.regions);
    if (inode.size_bytes == 0) return {};  // such files may not belong to any layer
    return copy_(writer_, inode.layer, inode.data_offset_bytes, inode.size_bytes);
  }

  // Names for which the container has folders instead of files come at the end.
  Result<void> add_missing() {
    if (!hosts_seen_)
      NITRO_CHECK(add_text(writer_, {.name = "rootfs/etc/hosts", .mode = 0644, .mtime = kFixedTime}, kHosts));
    if (!mtab_seen_) {
      NITRO_CHECK(add_text(writer_,
                           {.name = "rootfs/etc/mtab", .type = FileType::kSymlink, .mode = 0755, .mtime = kFixedTime},
                           kMtabTarget));
    }
    if (!resolv_conf_seen_) {
      NITRO_CHECK(add_text(
          writer_, {.name = "rootfs/etc/resolv.conf", .type = FileType::kSymlink, .mode = 0644, .mtime = kFixedTime},
          kResolvConfTarget));
    }
    return {};
  }

 private:
  Result<void> add_sparse(const Inode& inode, const SparseRegions& regions) {
    std::uint64_t position = 0;
    std::uint64_t stored = inode.data_offset_bytes;
    for (const auto& region : regions) {
      NITRO_CHECK(writer_.zeros(region.offset_bytes - position));
      if (region.size_bytes > 0) NITRO_CHECK(copy_(writer_, inode.layer, stored, region.size_bytes));
      position = region.offset_bytes + region.size_bytes;
      stored += region.size_bytes;
    }
    return writer_.zeros(inode.size_bytes - position);
  }

  CpioWriter& writer_;
  const CopyContent& copy_;
  std::string name_;
  bool hosts_seen_ = false;
  bool resolv_conf_seen_ = false;
  bool mtab_seen_ = false;
};

std::string lines(std::span<const std::string> words) {
  std::string text;
  for (const auto& word : words) {
    text += word;
    text += '\n';
  }
  return text;
}

}  // namespace

Result<void> write_bootstrap_ramdisk(const Extent& init, const std::optional<Extent>& nsm_module,
                                     const ByteSink& sink) {
  CpioWriter writer(sink);
  NITRO_CHECK(add_folder(writer, "dev"));
  const auto add = [&writer](std::string_view name, const Extent& content) -> Result<void> {
    NITRO_CHECK(writer.begin({.name = name, .mode = 0755, .mtime = kFixedTime, .size_bytes = content.size_bytes}));
    return writer.copy(content);
  };
  NITRO_CHECK(add("init", init));
  if (nsm_module) NITRO_CHECK(add("nsm.ko", *nsm_module));
  return writer.finish();
}

Result<void> add_container_files(Tree& tree, std::string_view working_folder) {
  enum class Kind { kFolder, kFile, kMtab };
  // moby: daemon/initlayer. Anything of the image in the way is removed, unless it is a folder.
  struct Wanted {
    std::string_view path;
    Kind kind;
  };
  constexpr std::array<Wanted, 10> kWanted{{{"dev/pts", Kind::kFolder},
                                            {"dev/shm", Kind::kFolder},
                                            {"proc", Kind::kFolder},
                                            {"sys", Kind::kFolder},
                                            {".dockerenv", Kind::kFile},
                                            {"etc/resolv.conf", Kind::kFile},
                                            {"etc/hosts", Kind::kFile},
                                            {"etc/hostname", Kind::kFile},
                                            {"dev/console", Kind::kFile},
                                            {"etc/mtab", Kind::kMtab}}};
  for (const auto& [path, kind] : kWanted) {
    const auto slash = path.rfind('/');
    if (slash != std::string_view::npos) tree.unlink(path.substr(0, slash));
    tree.unlink(path);
    if (tree.find(path, Tree::Lookup::kFollow) != nullptr) continue;
    if (kind == Kind::kFolder) {
      NITRO_CHECK(tree.make_directories(path));
      continue;
    }
    if (slash != std::string_view::npos) NITRO_CHECK(tree.make_directories(path.substr(0, slash)));
    NITRO_CHECK(kind == Kind::kMtab ? tree.add_symlink(path, kMtabTarget) : tree.add_empty_file(path, 0755));
  }
  if (!working_folder.empty()) {
    if (auto made = tree.make_directories(working_folder); !made) {
      return fail_within("making the working folder of the image", std::move(made).error());
    }
  }
  return {};
}

Result<void> write_customer_ramdisk(const Tree& tree, const CopyContent& copy, std::span<const std::string> command,
                                    std::span<const std::string> environment, CpioWriter& writer) {
  NITRO_CHECK(add_folder(writer, "rootfs"));
  RootfsWriter rootfs(writer, copy);
  NITRO_CHECK(tree.walk([&rootfs](const Tree::Visit& file) { return rootfs.add(file); }));
  NITRO_CHECK(rootfs.add_missing());
  // These folders are written again, without the slash, whether the image has them or not; when a kernel unpacks the
  // ramdisk, the later entries win.
  for (const char* name :
       {"rootfs", "rootfs/dev", "rootfs/run", "rootfs/sys", "rootfs/var", "rootfs/proc", "rootfs/tmp"}) {
    NITRO_CHECK(add_folder(writer, name));
  }
  NITRO_CHECK(add_text(writer, {.name = "cmd", .mode = 0644, .mtime = kFixedTime}, lines(command)));
  NITRO_CHECK(add_text(writer, {.name = "env", .mode = 0644, .mtime = kFixedTime}, lines(environment)));
  return writer.finish();
}

}  // namespace nitro::image
