// SPDX-License-Identifier: Apache-2.0
#include "eif/image/tree.h"

#include <algorithm>
#include <limits>

#include "src/base/bytes.h"
#include "src/base/text.h"

namespace nitro::image {

namespace {

// Special names in a layer (image specification, "Whiteouts"; AUFS kept private files under the longer prefix).
constexpr std::string_view kWhiteOut = ".wh.";
constexpr std::string_view kAufsPrivate = ".wh..wh.";
constexpr std::string_view kOpaque = ".wh..wh..opq";
constexpr std::string_view kAufsLinks = ".wh..wh.plnk";

constexpr std::size_t kMaxFileNameBytes = 255;  // NAME_MAX of Linux
constexpr int kMaxSymlinks = 40;                // MAXSYMLINKS of Linux
// A time in nanoseconds must fit in 64 bits, or the engine sets it to 1970.
constexpr std::int64_t kLastSecond = std::numeric_limits<std::int64_t>::max() / 1'000'000'000;
// The engine packs device numbers as Linux does: 12 bits of major, 20 bits of minor.
constexpr std::uint32_t kMajorMask = 0xfff;
constexpr std::uint32_t kMinorMask = 0xfffff;

// Returns the parts of `path` after purely lexical normalization; ".." at the root is the root.
std::vector<std::string_view> clean(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const auto slash = path.find('/');
    const auto part = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
    if (part.empty() || part == ".") continue;
    if (part != "..") {
      parts.push_back(part);
    } else if (!parts.empty()) {
      parts.pop_back();
    }
  }
  return parts;
}

std::string join(const std::vector<std::string_view>& parts) {
  std::string path;
  for (const auto part : parts) {
    if (!path.empty()) path += '/';
    path += part;
  }
  return path;
}

std::int64_t engine_time(std::int64_t mtime) {
  return mtime < 0 || mtime > kLastSecond ? 0 : mtime;
}

tl::unexpected<std::string> because(std::string reason) {
  return tl::unexpected<std::string>(std::move(reason));
}

constexpr const char* kNotAFolder = "a part of its path is not a folder";

}  // namespace

Tree::Tree(Budget& budget, std::size_t max_files)
    : name_budget_("the names of its files", kMaxNameBytes, budget),
      region_budget_("the regions of its sparse files", kMaxRegionBytes, budget),
      aufs_budget_("what AUFS keeps for hard links", kMaxAufsBytes, budget),
      max_files_(max_files),
      names_(name_budget_),
      nodes_(budget),
      inodes_(budget),
      sparse_maps_(region_budget_),
      names_in_order_(ByParentAndName{this}, budget),
      aufs_links_(aufs_budget_) {
  inodes_.push_back(Inode{.type = FileType::kDirectory, .mode = 0755, .links = 1, .mtime = kFixedTime});
  nodes_.push_back(Node{kRoot, 0, 0, 0, 0, kNoLayer});
}

std::uint32_t Tree::begin_layer() {
  aufs_links_.clear();
  return layer_++;
}

Tree::NodeId Tree::child(NodeId parent, std::string_view child_name) const {
  const auto found = names_in_order_.find(Key{parent, child_name});
  return found == names_in_order_.end() ? kNone : *found;
}

// Returns the target of `path`, the text of a symbolic link in the folder `from`: a folder, or a reason for failure.
Tree::Try<Tree::NodeId> Tree::follow(NodeId from, std::string_view path, int& links) const {
  if (++links > kMaxSymlinks) return because("its path leads through too many symbolic links");
  NodeId here = path.starts_with('/') ? kRoot : from;
  while (!path.empty()) {
    const auto slash = path.find('/');
    const auto part = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view() : path.substr(slash + 1);
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      here = nodes_[here].parent;
      continue;
    }
    const NodeId next = child(here, part);
    if (next == kNone) return because("a symbolic link in its path leads nowhere");
    if (inode_of(next).type == FileType::kSymlink) {
      auto led = follow(here, symlink_text(inode_of(next)), links);
      if (!led) return led;
      here = *led;
    } else if (is_directory(next)) {
      here = next;
    } else {
      return because(kNotAFolder);
    }
  }
  return here;
}

Tree::Try<Tree::Walk> Tree::walk_to(const Components& components) const {
  NodeId here = kRoot;
  int links = 0;
  for (std::size_t i = 0; i < components.size(); ++i) {
    const NodeId next = child(here, components[i]);
    if (next == kNone) return Walk{here, i};
    if (inode_of(next).type == FileType::kSymlink) {
      const auto led = follow(here, symlink_text(inode_of(next)), links);
      if (!led) return because(led.error());
      here = *led;
    } else if (is_directory(next)) {
      here = next;
    } else {
      return because(kNotAFolder);
    }
  }
  return Walk{here, components.size()};
}

Tree::Try<Tree::NodeId> Tree::directory(const Components& components) const {
  const auto walked = walk_to(components);
  if (!walked) return because(walked.error());
  if (walked->used != components.size()) return because("the folder it is in is missing");
  return walked->node;
}

Tree::Try<Tree::NodeId> Tree::directory_or_make(const Components& components, std::uint32_t layer) {
  auto path = join(components);
  if (last_directory_ != kNone && path == last_directory_path_) return last_directory_;
  const auto walked = walk_to(components);
  if (!walked) return because(walked.error());
  NodeId here = walked->node;
  for (std::size_t i = walked->used; i < components.size(); ++i) {
    // No layer says what these folders are like. The engine creates them with its own user and the current time, which
    // would change the image's measurements every day.
    const auto inode = add_inode(Inode{.type = FileType::kDirectory, .mode = 0755, .mtime = kFixedTime});
    if (!inode) return because(inode.error());
    auto made = add_name(here, components[i], *inode, layer);
    if (!made) return made;
    here = *made;
  }
  last_directory_path_ = std::move(path);
  last_directory_ = here;
  return here;
}

std::uint64_t Tree::add_text(std::string_view text) {
  const auto offset = names_.size();
  names_ += text;
  return offset;
}

std::uint32_t Tree::add_sparse_map(const SparseRegions& regions) {
  sparse_maps_.emplace_back(regions.begin(), regions.end(), region_budget_);
  return static_cast<std::uint32_t>(sparse_maps_.size());
}

Tree::Try<Tree::InodeId> Tree::add_inode(const Inode& inode) {
  // Each gets a name, and names are counted.
  if (inode.type == FileType::kRegular) {
    if (inode.size_bytes > kMaxContentBytes - content_bytes_) {
      return because("the files of the image are larger than " + limit_text(kMaxContentBytes) +
                     " together, which no enclave can hold");
    }
    content_bytes_ += inode.size_bytes;
  }
  inodes_.push_back(inode);
  return static_cast<InodeId>(inodes_.size() - 1);
}

Tree::Try<Tree::InodeId> Tree::add_symlink_inode(Inode inode, std::string_view target) {
  inode.type = FileType::kSymlink;
  inode.data_offset_bytes = add_text(target);
  inode.size_bytes = target.size();
  return add_inode(inode);
}

Tree::Try<Tree::NodeId> Tree::add_name(NodeId parent, std::string_view child_name, InodeId inode, std::uint32_t layer) {
  const std::size_t path_size = nodes_[parent].path_size + (parent == kRoot ? 0U : 1U) + child_name.size();
  if (child_name.size() > kMaxFileNameBytes || path_size > kMaxPathBytes) {
    return because("its name is longer than Linux allows (" + std::to_string(kMaxFileNameBytes) + " bytes, " +
                   std::to_string(kMaxPathBytes) + " with the folders)");
  }
  if (nodes_.size() >= max_files_) {
    return because("the image has more than " + std::to_string(max_files_) + " files");
  }
  const auto offset = add_text(child_name);
  const auto id = static_cast<NodeId>(nodes_.size());
  nodes_.push_back(Node{parent, inode, offset, static_cast<std::uint16_t>(child_name.size()),
                        static_cast<std::uint16_t>(path_size), layer});
  names_in_order_.insert(id);
  ++inodes_[inode].links;
  return id;
}

void Tree::remove(NodeId id) {
  last_directory_ = kNone;
  if (is_directory(id)) {
    for (auto it = names_in_order_.lower_bound(Key{id, {}}); it != names_in_order_.end() && nodes_[*it].parent == id;
         it = names_in_order_.lower_bound(Key{id, {}})) {
      remove(*it);
    }
  }
  --inode_of(id).links;
  names_in_order_.erase(id);
}

void Tree::remove_older(NodeId directory_id) {
  std::vector<NodeId> children;
  for (auto it = names_in_order_.lower_bound(Key{directory_id, {}});
       it != names_in_order_.end() && nodes_[*it].parent == directory_id; ++it) {
    children.push_back(*it);
  }
  for (const NodeId id : children) {
    if (nodes_[id].layer != layer_) {
      remove(id);
    } else if (is_directory(id)) {
      remove_older(id);
    }
  }
}

Tree::Try<void> Tree::apply_opaque(const Components& parents) {
  if (!parents.empty()) {
    const Components above(parents.begin(), parents.end() - 1);
    const auto folder = directory(above);
    if (!folder) return because(folder.error());
    // The engine does not follow a symbolic link here.
    if (const NodeId itself = child(*folder, parents.back()); itself != kNone && !is_directory(itself)) return {};
  }
  const auto folder = directory(parents);
  if (!folder) return because(folder.error());
  remove_older(*folder);
  return {};
}

Tree::Try<void> Tree::apply_white_out(const Components& parents, std::string_view hidden) {
  // ".wh." and ".wh..": the folder itself; ".wh...": its parent.
  Components victim = parents;
  if (hidden == "..") {
    if (!victim.empty()) victim.pop_back();
  } else if (!hidden.empty() && hidden != ".") {
    victim.push_back(hidden);
  }
  if (victim.empty()) return because("it would remove the root of the image");
  const auto name_of_victim = victim.back();
  victim.pop_back();
  const auto folder = directory(victim);
  if (!folder) return because(folder.error());
  if (const NodeId id = child(*folder, name_of_victim); id != kNone) remove(id);
  return {};
}

Tree::Try<void> Tree::apply_hard_link(const TarEntry& entry, NodeId parent, std::string_view base) {
  auto parts = clean(entry.link_target);
  if (parts.empty()) return because("it is a hard link to the root");
  const auto target_name = parts.back();
  parts.pop_back();
  const auto folder = directory(parts);
  const NodeId target = folder ? child(*folder, target_name) : kNone;
  if (target == kNone) {
    return because("it is a hard link to " + quote(entry.link_target) + ", which the image does not have");
  }
  if (is_directory(target)) return because("it is a hard link to the folder " + quote(entry.link_target));
  const auto linked = add_name(parent, base, nodes_[target].inode, layer_);
  if (!linked) return because(linked.error());
  Inode& inode = inode_of(*linked);
  inode.uid = entry.uid;
  inode.gid = entry.gid;
  if (inode.type != FileType::kSymlink) {
    inode.mode = static_cast<std::uint16_t>(entry.mode);
    inode.mtime = engine_time(entry.mtime);
  }
  return {};
}

Tree::Try<std::optional<Tree::NodeId>> Tree::make_room(const Inode& inode, bool is_folder, const Components& parents,
                                                       std::string_view base) {
  const auto parent = directory_or_make(parents, kNoLayer);
  if (!parent) return because(parent.error());
  if (const NodeId older = child(*parent, base); older != kNone) {
    if (is_folder && is_directory(older)) {
      const auto links = inode_of(older).links;
      inode_of(older) = inode;
      inode_of(older).links = links;
      nodes_[older].layer = layer_;
      return std::optional<NodeId>();
    }
    remove(older);
  }
  return std::optional<NodeId>(*parent);
}

// Returns everything of an entry, which is not a link, except its names: a file's content, a device's number.
Inode Tree::inode_for(const TarEntry& entry) {
  Inode inode{.type = entry.type,
              .mode = static_cast<std::uint16_t>(entry.mode),
              .uid = entry.uid,
              .gid = entry.gid,
              .mtime = entry.type == FileType::kSymlink ? entry.mtime : engine_time(entry.mtime)};
  if (entry.type == FileType::kRegular) {
    inode.size_bytes = entry.size_bytes;
    inode.data_offset_bytes = entry.data_offset_bytes;
    inode.layer = layer_ - 1;
    if (entry.regions) inode.sparse_map = add_sparse_map(*entry.regions);
  } else if (entry.type == FileType::kCharDevice || entry.type == FileType::kBlockDevice) {
    inode.device_major = entry.device_major & kMajorMask;
    inode.device_minor = entry.device_minor & kMinorMask;
  }
  return inode;
}

Tree::Try<void> Tree::apply_file(const TarEntry& entry, const Components& parents, std::string_view base) {
  const bool is_file = entry.kind == TarEntry::Kind::kFile;
  if (is_file && entry.type == FileType::kSymlink && entry.link_target.empty()) {
    return because("it is a symbolic link to nothing");
  }
  auto inode = is_file ? inode_for(entry) : Inode();
  const auto room = make_room(inode, is_file && entry.type == FileType::kDirectory, parents, base);
  if (!room) return because(room.error());
  if (!*room || entry.kind == TarEntry::Kind::kGlobalHeader) return {};
  if (entry.kind == TarEntry::Kind::kHardLink) return apply_hard_link(entry, **room, base);
  if (entry.type == FileType::kSymlink) inode.mode = 0777;  // as Linux shows all symbolic links
  const auto id = entry.type == FileType::kSymlink ? add_symlink_inode(inode, entry.link_target) : add_inode(inode);
  if (!id) return because(id.error());
  const auto added = add_name(**room, base, *id, layer_);
  if (!added) return because(added.error());
  return {};
}

// Adds a separate file with the attributes and content of the kept one; links to one such file do not share an inode.
Tree::Try<void> Tree::apply_aufs_link(const Inode& inode, const Components& parents, std::string_view base) {
  const auto room = make_room(inode, false, parents, base);
  if (!room) return because(room.error());
  const auto id = add_inode(inode);
  if (!id) return because(id.error());
  const auto added = add_name(**room, base, *id, layer_);
  if (!added) return because(added.error());
  return {};
}

Tree::Try<void> Tree::apply_named(const TarEntry& entry) {
  if (entry.kind == TarEntry::Kind::kUnsupported) {
    return because("members of type " + quote(std::string(1, entry.type_flag)) + " have no place in a layer");
  }
  auto parts = clean(entry.name);
  if (parts.empty()) {
    if (entry.kind == TarEntry::Kind::kFile && entry.type == FileType::kDirectory) return {};
    return because("it would replace the root of the image");
  }
  if (parts.front().starts_with(kAufsPrivate) && !(parts.size() == 1 && parts.front() == kOpaque)) {
    // Old engines on AUFS kept the content of hard links here.
    const Components above(parts.begin(), parts.end() - 1);
    // The engine creates the folder for it anyway; a failure to create it does no harm.
    static_cast<void>(directory_or_make(above, kNoLayer));
    if (parts.front() == kAufsLinks && entry.kind == TarEntry::Kind::kFile && entry.type == FileType::kRegular) {
      aufs_links_.insert_or_assign(HeldString(parts.back(), aufs_budget_), inode_for(entry));
    }
    return {};
  }
  const auto base = parts.back();
  parts.pop_back();
  if (base.starts_with(kWhiteOut)) {
    if (const auto folder = directory_or_make(parts, kNoLayer); !folder) {
      // Nothing can be below a broken symbolic link or a file that is not a folder, so there is nothing to remove.
      const auto above = directory(Components(parts.begin(), parts.end() - 1));
      const NodeId parent = above ? child(*above, parts.back()) : kNone;
      if (parent != kNone && (base == kOpaque || inode_of(parent).type == FileType::kSymlink)) return {};
      return because(folder.error());
    }
    return base == kOpaque ? apply_opaque(parts) : apply_white_out(parts, base.substr(kWhiteOut.size()));
  }
  if (entry.kind == TarEntry::Kind::kHardLink) {
    const auto target = clean(entry.link_target);
    if (!target.empty() && target.front() == kAufsLinks) {
      const auto kept = aufs_links_.find(target.back());
      if (kept == aufs_links_.end())
        return because("it is a hard link to " + quote(entry.link_target) + ", which is missing");
      return apply_aufs_link(kept->second, parts, base);
    }
  }
  return apply_file(entry, parts, base);
}

Result<void> Tree::apply(const TarEntry& entry) {
  if (auto applied = Budget::run([&] { return apply_named(entry); }, because); !applied) {
    return fail(ErrorCode::kEifBuilding, "entry " + quote(entry.name) + ": " + applied.error());
  }
  return {};
}

const Inode* Tree::find(std::string_view path, Lookup lookup) const {
  auto parts = clean(path);
  if (parts.empty()) return &inodes_[nodes_[kRoot].inode];
  const auto base = parts.back();
  parts.pop_back();
  const auto folder = directory(parts);
  if (!folder) return nullptr;
  const NodeId id = child(*folder, base);
  if (id == kNone) return nullptr;
  if (lookup == Lookup::kFollow && inode_of(id).type == FileType::kSymlink) {
    int links = 0;
    // A link to anything but a folder counts as missing here: no caller needs such files with kFollow.
    const auto led = follow(*folder, symlink_text(inode_of(id)), links);
    return led ? &inode_of(*led) : nullptr;
  }
  return &inode_of(id);
}

void Tree::unlink(std::string_view path) {
  auto parts = clean(path);
  if (parts.empty()) return;
  const auto base = parts.back();
  parts.pop_back();
  const auto folder = directory(parts);
  if (!folder) return;
  if (const NodeId id = child(*folder, base); id != kNone && !is_directory(id)) remove(id);
}

Result<void> Tree::make_directories(std::string_view path) {
  const auto make = [&] { return directory_or_make(clean(path), kNoLayer); };
  if (const auto made = Budget::run(make, because); !made) {
    return fail(ErrorCode::kEifBuilding, "folder " + quote(path) + ": " + made.error());
  }
  return {};
}

Tree::Try<Tree::NodeId> Tree::add_file(std::string_view path, const Inode& inode, std::string_view target) {
  return Budget::run(
      [&]() -> Try<NodeId> {
        auto parts = clean(path);
        const auto base = parts.back();
        parts.pop_back();
        auto folder = directory(parts);
        if (!folder) return folder;
        if (child(*folder, base) != kNone) return because("the image has a file of this name");
        const auto id = inode.type == FileType::kSymlink ? add_symlink_inode(inode, target) : add_inode(inode);
        if (!id) return because(id.error());
        return add_name(*folder, base, *id, kNoLayer);
      },
      because);
}

Result<void> Tree::add_empty_file(std::string_view path, std::uint16_t mode) {
  const auto added = add_file(path, Inode{.type = FileType::kRegular, .mode = mode, .mtime = kFixedTime}, {});
  if (!added) return fail(ErrorCode::kEifBuilding, quote(path) + ": " + added.error());
  return {};
}

Result<void> Tree::add_symlink(std::string_view path, std::string_view target) {
  const auto added = add_file(path, Inode{.type = FileType::kSymlink, .mode = 0777, .mtime = kFixedTime}, target);
  if (!added) return fail(ErrorCode::kEifBuilding, quote(path) + ": " + added.error());
  return {};
}

std::string Tree::path_of(NodeId id) const {
  Components parts;
  for (; id != kRoot; id = nodes_[id].parent) parts.push_back(name(id));
  std::reverse(parts.begin(), parts.end());
  return join(parts);
}

Result<void> Tree::walk(const std::function<Result<void>(const Visit&)>& visit) const {
  return Budget::run([&] { return walk_names(visit); });
}

Result<void> Tree::walk_names(const std::function<Result<void>(const Visit&)>& visit) const {
  // Of files with several names. Holds node numbers, not paths, as all of those may have the maximum length.
  HeldHashMap<InodeId, NodeId> first_names(nodes_.get_allocator());
  std::string path;
  std::string first_name;
  struct Level {
    NodeId folder;
    HeldSet<NodeId, ByParentAndName>::const_iterator next;
    std::size_t path_size;
  };
  std::vector<Level> levels{{kRoot, names_in_order_.lower_bound(Key{kRoot, {}}), 0}};
  while (!levels.empty()) {
    auto& level = levels.back();
    path.resize(level.path_size);
    if (level.next == names_in_order_.end() || nodes_[*level.next].parent != level.folder) {
      levels.pop_back();
      continue;
    }
    const NodeId id = *level.next++;
    if (!path.empty()) path += '/';
    path += name(id);
    const Inode& inode = inode_of(id);
    Visit visited{path,
                  inode,
                  inode.type == FileType::kSymlink ? symlink_text(inode) : std::string_view(),
                  {},
                  inode.sparse_map == 0 ? nullptr : &sparse_maps_[inode.sparse_map - 1]};
    if (inode.links > 1 && inode.type != FileType::kDirectory) {
      const auto [first, is_new] = first_names.try_emplace(nodes_[id].inode, id);
      if (!is_new) {
        first_name = path_of(first->second);
        visited.first_name = first_name;
      }
    }
    NITRO_CHECK(visit(visited));
    if (inode.type == FileType::kDirectory) {
      levels.push_back({id, names_in_order_.lower_bound(Key{id, {}}), path.size()});
    }
  }
  return {};
}

}  // namespace nitro::image
