// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "eif/image/budget.h"
#include "eif/image/byte_stream.h"
#include "eif/image/tar_format.h"
#include "eif/image/tar_sparse.h"

namespace nitro::image {

enum class FileType : std::uint8_t {
  kRegular,
  kDirectory,
  kSymlink,
  kCharDevice,
  kBlockDevice,
  kFifo,
};

/// One member of a tar archive.
struct TarEntry {
  enum class Kind : std::uint8_t {
    kFile,          ///< `type` says of which kind
    kHardLink,      ///< another name of `link_target`
    kGlobalHeader,  ///< pax records for all that follows (git writes its commit so); has nothing but a name
    kUnsupported,   ///< a type of member that means nothing to us; `type_flag` names it
  };

  Kind kind = Kind::kFile;
  FileType type = FileType::kRegular;
  char type_flag = '0';     ///< as in the archive
  std::string name;         ///< as in the archive: may be absolute, hold "..", end in '/'
  std::string link_target;  ///< of symbolic and hard links
  std::uint32_t mode = 0;   ///< permission bits with set-id and sticky bits: 07777
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime = 0;  ///< seconds since 1970, rounded down
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::uint64_t size_bytes = 0;         ///< of the content; 0 for everything but regular files
  std::uint64_t data_offset_bytes = 0;  ///< where the content starts in the archive
  /// Of a sparse file: what of it the archive stores, from data_offset_bytes on.
  std::optional<SparseRegions> regions;
};

/// Most bytes of a member's name or link target (Linux: PATH_MAX) and of each of the headers that extend its own.
inline constexpr std::size_t kMaxPathBytes = 4095;
inline constexpr std::size_t kMaxExtendedHeaderBytes = std::size_t{1} << 20;

/// Reads a tar archive: v7, ustar, pax (POSIX.1-2001), star, and GNU with its long names and its sparse files (all four
/// formats). Only headers are read; contents are skipped, and can be read through their offset later. That is why this
/// is not libarchive, whose entries do not tell where their content lies.
///
/// The rules of doubtful cases are those of Go's archive/tar, with which container engines read layers:
/// - an archive ends at two zero blocks, or at the end of the file where a header or the second zero block should be;
///   extended headers that wait for a member then count for nothing
/// - members without content (links, folders, devices) have none, whatever their size field says
/// - an extended header replaces one of its kind before it: pax records do not add up
/// - GNU's long names win over the path of pax records, whichever comes first
/// - an empty pax value means that the record is absent; of two records of one name the last counts
/// - a sparse file of a pax version that is not known is a file like others
///
/// Memory: what is charged to the budget, some MiB for the extended headers of one member, and a window of 32 KiB.
class TarReader {
 public:
  /// `archive` is borrowed, and read up to its last member's end at most; so is `budget`, to which entries are charged,
  /// too.
  TarReader(ByteStream& archive, Budget& budget);

  /// Reads the next member into `entry`. False at the end. Errors: kEifBuilding when this is no tar archive, it ends
  /// inside a member (which is found out at the next call), or a limit is exceeded; the message names the offset. Also
  /// those of the archive.
  Result<bool> next(TarEntry& entry);

 private:
  struct Header;
  struct Extended;

  Result<std::span<const std::byte>> take(std::size_t size_bytes);
  Result<std::uint64_t> pass(std::uint64_t size_bytes);
  Result<void> pass_content();
  Result<bool> read_member(TarEntry& entry);
  Result<bool> read_header(Header& header);
  Result<void> parse_header(Header& header) const;
  Result<HeldString> extended_content(const Header& header);
  Result<void> parse_records(Extended& extended) const;
  Result<void> check_records(const Extended& extended) const;
  Result<void> begin_entry(const Header& header, const Extended& extended, TarEntry& entry);
  Result<void> read_sparse_map(const Header& header, const Extended& extended, TarEntry& entry);
  Result<void> read_gnu_sparse_map(const Header& header, TarEntry& entry);
  Result<void> read_pax_sparse_map(const Extended& extended, TarEntry& entry);
  Result<void> read_stored_sparse_map(SparseRegions& regions);
  Failure malformed(std::string_view reason) const;

  ByteStream& archive_;
  Budget& budget_;
  Budget headers_;                   // a part of it: what the headers of one member hold
  std::uint64_t position_ = 0;       // of the next byte that is taken
  std::uint64_t header_offset_ = 0;  // of the header in work, for messages
  std::uint64_t content_left_ = 0;   // of the last member's content, to be passed over
  std::uint64_t padding_left_ = 0;   // behind it
  std::string name_;                 // of the last member
  std::vector<std::byte> window_;    // bytes that were read ahead are at [window_used_, window_size_)
  std::size_t window_used_ = 0;
  std::size_t window_size_ = 0;
};

}  // namespace nitro::image
