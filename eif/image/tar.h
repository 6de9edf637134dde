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
    kFile,          ///< of the kind that `type` says
    kHardLink,      ///< another name of `link_target`
    kGlobalHeader,  ///< pax records for everything that follows (git stores its commit so); has only a name
    kUnsupported,   ///< an unsupported type of member, in `type_flag`
  };

  Kind kind = Kind::kFile;
  FileType type = FileType::kRegular;
  char type_flag = '0';     ///< as in the archive
  std::string name;         ///< as in the archive: may be absolute, contain "..", end in '/'
  std::string link_target;  ///< of symbolic and hard links
  std::uint32_t mode = 0;   ///< permission bits with set-id and sticky bits: 07777
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int64_t mtime = 0;  ///< seconds since 1970, rounded down
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::uint64_t size_bytes = 0;         ///< of the content; 0 unless it is a regular file
  std::uint64_t data_offset_bytes = 0;  ///< position of the content in the archive
  /// For a sparse file: the regions that the archive stores, from data_offset_bytes on.
  std::optional<SparseRegions> regions;
};

/// Limits for a member's name or link target (Linux: PATH_MAX) and for each of its extended headers.
inline constexpr std::size_t kMaxPathBytes = 4095;
inline constexpr std::size_t kMaxExtendedHeaderBytes = std::size_t{1} << 20;

/// Reads a tar archive: v7, ustar, pax (POSIX.1-2001), star, and GNU with its long names and its sparse files (all four
/// formats). Only headers are read; contents are skipped, and can be read through their offset later. That rules out
/// libarchive, whose entries do not report the position of their content.
///
/// Doubtful cases follow Go's archive/tar, with which container engines read layers:
/// - an archive ends at two zero blocks, or at the end of the file where a header or the second zero block should be;
///   extended headers without a member are then ignored
/// - members without content (links, folders, devices) have none, whatever their size field says
/// - an extended header replaces one of its kind before it: pax records do not add up
/// - GNU's long names override the path of pax records, whichever comes first
/// - an empty pax value means that the record is absent; of two records with the same name the last counts
/// - a sparse file of an unknown pax version is an ordinary file
///
/// Memory: entries as charged to the budget, some MiB for the extended headers of one member, and a window of 32 KiB.
class TarReader {
 public:
  /// `archive` is borrowed, and read at most up to the end of its last member; `budget` is borrowed too, and entries
  /// are charged to it.
  TarReader(ByteStream& archive, Budget& budget);

  /// Reads the next member into `entry`. Returns false at the end. Errors: kEifBuilding when this is not a tar archive,
  /// it ends inside a member (which the next call detects), or a limit is exceeded; the message names the offset. Also
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
  Budget headers_;                   // a part of the budget: the headers of one member
  std::uint64_t position_ = 0;       // of the next byte to be taken
  std::uint64_t header_offset_ = 0;  // of the current header, for messages
  std::uint64_t content_left_ = 0;   // of the last member's content, to be skipped
  std::uint64_t padding_left_ = 0;   // after it
  std::string name_;                 // of the last member
  std::vector<std::byte> window_;    // bytes read ahead are at [window_used_, window_size_)
  std::size_t window_used_ = 0;
  std::size_t window_size_ = 0;
};

}  // namespace nitro::image
