// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "eif/image/budget.h"
#include "eif/image/tar.h"
#include "nitro/result.h"

namespace nitro::image {

/// The time of files that no layer dates: folders implied by the names below them, and everything that the ramdisks
/// add. It is the constant of the tool that defines the ramdisk format (linuxkit: 18 April 2017, 16:30 UTC).
inline constexpr std::int64_t kFixedTime = 1492533000;

/// Limit for the files of an image. Real images stay far below (a full Debian desktop: 300 000 files).
inline constexpr std::size_t kMaxFiles = std::size_t{1} << 22;
/// Memory limits for the names and link targets of all files together, and for the regions of all sparse files.
inline constexpr std::uint64_t kMaxNameBytes = std::uint64_t{512} << 20;
inline constexpr std::uint64_t kMaxRegionBytes = std::uint64_t{64} << 20;
/// Memory limit for the files that AUFS keeps for hard links to them: an engine wrote one for each file with several
/// names, so there are thousands at most.
inline constexpr std::uint64_t kMaxAufsBytes = std::uint64_t{16} << 20;
/// Limit for the contents of all files together: more than any enclave holds, but low enough to stop a layer whose
/// holes, or links to one file, stand for any number of bytes.
inline constexpr std::uint64_t kMaxContentBytes = std::uint64_t{64} << 30;

/// One file, shared by all its names.
struct Inode {
  FileType type = FileType::kRegular;
  std::uint16_t mode = 0;  ///< 07777
  std::uint32_t links = 0;
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime = 0;        ///< seconds since 1970
  std::uint64_t size_bytes = 0;  ///< of a regular file's content or a symbolic link's text
  std::uint64_t data_offset_bytes =
      0;  ///< regular file: of its content in the layer; symbolic link: of its text among the names
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::uint32_t layer = 0;       ///< index of the layer that holds the content
  std::uint32_t sparse_map = 0;  ///< sparse file: number of its map, counted from 1; 0: not sparse
};

/// The file system of an image: its merged layers. Holds only names and attributes; contents stay in the layers.
/// Memory: some 150 bytes per file, charged to the budget.
///
/// The rules are those of Docker's engine when it unpacks layers into a separate folder (pkg/archive of moby, run in a
/// chroot), because the engine defines which files an image has:
/// - names are normalized first ("a/../b", "./b", "/b" and "../b" are all "b"); nothing lies outside the root
/// - missing folders above an entry are created; symbolic links above it are followed, inside the root, and must lead
///   to a folder
/// - an entry replaces an existing one of its name, unless both are folders: then the older one's content stays
/// - ".wh.NAME" removes NAME, ".wh..wh..opq" removes everything in its folder that this layer has not added so far
/// - a hard link's entry changes owner, mode and time of its target
/// - a header of global pax records removes what has its name and puts nothing there
///
/// Not thread-safe.
class Tree {
 public:
  /// `budget` is borrowed. `max_files` includes files that were replaced or removed.
  explicit Tree(Budget& budget, std::size_t max_files = kMaxFiles);
  Tree(const Tree&) = delete;
  Tree& operator=(const Tree&) = delete;

  /// Starts a layer; entries applied from now on belong to it. Returns its index.
  std::uint32_t begin_layer();
  /// Errors: kEifBuilding, naming the entry: the engine would refuse it too, or a limit is exceeded.
  Result<void> apply(const TarEntry& entry);

  // Changes made when a container is created from the image. Paths are absolute or relative to the root; symbolic links
  // above the last name are followed.
  enum class Lookup { kFollow, kNoFollow };
  /// Returns the file at `path`, or nullptr.
  [[nodiscard]] const Inode* find(std::string_view path, Lookup lookup) const;
  /// Removes the file at `path` if there is one and it is not a folder.
  void unlink(std::string_view path);
  /// Creates the folder `path` and all missing ones above it (0755, root, kFixedTime). Errors: kEifBuilding when a file
  /// is in the way.
  Result<void> make_directories(std::string_view path);
  /// Errors: kEifBuilding when the parent folder is missing or the name is taken.
  Result<void> add_empty_file(std::string_view path, std::uint16_t mode);
  Result<void> add_symlink(std::string_view path, std::string_view target);

  struct Visit {
    std::string_view path;  ///< relative, without a slash at its ends
    const Inode& inode;
    std::string_view link_target;  ///< text of a symbolic link
    std::string_view first_name;   ///< not empty: another name of the file that was visited as `first_name`
    const SparseRegions* regions;  ///< the regions that the layer holds of a sparse file; nullptr: all of it
  };
  /// Visits everything but the root: folders before their content, names of a folder sorted by their bytes.
  Result<void> walk(const std::function<Result<void>(const Visit&)>& visit) const;

  [[nodiscard]] std::size_t file_count() const { return names_in_order_.size(); }

 private:
  using NodeId = std::uint32_t;
  using InodeId = std::uint32_t;
  static constexpr NodeId kRoot = 0;
  static constexpr NodeId kNone = ~NodeId{0};
  static constexpr std::uint32_t kNoLayer = ~std::uint32_t{0};

  struct Node {
    NodeId parent;
    InodeId inode;
    std::uint64_t name_offset;
    std::uint16_t name_size;
    std::uint16_t path_size;  // of the whole path, in bytes
    std::uint32_t layer;      // the layer whose entry created or changed this name; kNoLayer: none did
  };
  struct Key {
    NodeId parent;
    std::string_view name;
  };
  struct ByParentAndName {
    using is_transparent = void;
    const Tree* tree;
    bool operator()(NodeId a, NodeId b) const { return less(tree->key(a), tree->key(b)); }
    bool operator()(const Key& a, NodeId b) const { return less(a, tree->key(b)); }
    bool operator()(NodeId a, const Key& b) const { return less(tree->key(a), b); }
    static bool less(const Key& a, const Key& b) {
      return a.parent != b.parent ? a.parent < b.parent : a.name < b.name;
    }
  };
  using Components = std::vector<std::string_view>;  // of a path of at most kMaxPathBytes

  [[nodiscard]] Key key(NodeId id) const { return {nodes_[id].parent, name(id)}; }
  [[nodiscard]] std::string_view name(NodeId id) const {
    return std::string_view(names_).substr(nodes_[id].name_offset, nodes_[id].name_size);
  }
  [[nodiscard]] std::string_view symlink_text(const Inode& inode) const {
    return std::string_view(names_).substr(inode.data_offset_bytes, inode.size_bytes);
  }
  [[nodiscard]] Inode& inode_of(NodeId id) { return inodes_[nodes_[id].inode]; }
  [[nodiscard]] const Inode& inode_of(NodeId id) const { return inodes_[nodes_[id].inode]; }
  [[nodiscard]] bool is_directory(NodeId id) const { return inode_of(id).type == FileType::kDirectory; }
  [[nodiscard]] NodeId child(NodeId parent, std::string_view child_name) const;
  [[nodiscard]] std::string path_of(NodeId id) const;

  // Why an operation failed, worded to follow the name of the entry.
  using Reason = std::string;
  template <class T>
  using Try = tl::expected<T, Reason>;
  // How far a walk from the root got: all components (used == their number), or up to `node`, which lacks the next one.
  struct Walk {
    NodeId node;
    std::size_t used;
  };
  [[nodiscard]] Try<Walk> walk_to(const Components& components) const;
  [[nodiscard]] Try<NodeId> follow(NodeId from, std::string_view path, int& links) const;
  [[nodiscard]] Try<NodeId> directory(const Components& components) const;
  Try<NodeId> directory_or_make(const Components& components, std::uint32_t layer);
  Try<NodeId> add_name(NodeId parent, std::string_view child_name, InodeId inode, std::uint32_t layer);
  Try<InodeId> add_inode(const Inode& inode);
  Try<InodeId> add_symlink_inode(Inode inode, std::string_view target);
  Try<NodeId> add_file(std::string_view path, const Inode& inode, std::string_view target);
  std::uint64_t add_text(std::string_view text);
  std::uint32_t add_sparse_map(const SparseRegions& regions);
  Result<void> walk_names(const std::function<Result<void>(const Visit&)>& visit) const;
  void remove(NodeId id);
  void remove_older(NodeId directory_id);

  Try<void> apply_named(const TarEntry& entry);
  Try<void> apply_white_out(const Components& parents, std::string_view hidden);
  Try<void> apply_opaque(const Components& parents);
  // Removes what has the name of an entry, and returns the parent folder; or updates an existing folder and returns
  // nullopt.
  Try<std::optional<NodeId>> make_room(const Inode& inode, bool is_folder, const Components& parents,
                                       std::string_view base);
  Try<void> apply_file(const TarEntry& entry, const Components& parents, std::string_view base);
  Try<void> apply_aufs_link(const Inode& inode, const Components& parents, std::string_view base);
  Inode inode_for(const TarEntry& entry);
  Try<void> apply_hard_link(const TarEntry& entry, NodeId parent, std::string_view base);

  // Parts of the image's budget.
  Budget name_budget_;
  Budget region_budget_;
  Budget aufs_budget_;

  std::size_t max_files_;
  std::uint64_t content_bytes_ = 0;  // of all files, including removed ones
  HeldString names_;
  HeldVector<Node> nodes_;
  HeldVector<Inode> inodes_;
  HeldVector<SparseRegions> sparse_maps_;
  HeldSet<NodeId, ByParentAndName> names_in_order_;  // without the root
  std::uint32_t layer_ = 0;
  HeldMap<HeldString, Inode> aufs_links_;  // of this layer: kept by AUFS for hard links to it
  // The last folder found for an entry, as neighbours mostly share it. Cleared when anything is removed.
  std::string last_directory_path_;
  NodeId last_directory_ = kNone;
};

}  // namespace nitro::image
