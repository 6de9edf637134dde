// SPDX-License-Identifier: Apache-2.0
#include "eif/image/tar.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>

#include "eif/image/tar_format.h"
#include "src/base/bytes.h"

namespace nitro::image {

namespace {

constexpr std::size_t kBlock = kTarBlock;
// Large enough to find the headers of many small files with one read, small enough not to read much of large files.
constexpr std::size_t kWindowBytes = std::size_t{32} << 10;

// Fields of a header (POSIX.1-1988, ustar).
using Field = TarField;
constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12}, kMtime{136, 12},
    kChecksum{148, 8}, kLinkName{157, 100}, kMagic{257, 8}, kDeviceMajor{329, 8}, kDeviceMinor{337, 8},
    kPrefix{345, 155};
constexpr std::size_t kTypeFlag = 156;
// GNU tar overwrites the prefix in the header of a sparse file with four regions, whether more follow in separate
// blocks (21 regions each), and the size of the file.
constexpr std::size_t kGnuSparse = 386, kGnuSparseCount = 4, kGnuSparseMore = 482;
constexpr Field kGnuRealSize{483, 12};
constexpr std::size_t kGnuExtensionCount = 21, kGnuExtensionMore = 504;
// ustar's magic is followed by a version, which readers ignore; star's headers differ only in their last field.
constexpr std::string_view kUstarMagic("ustar\0", 6);
constexpr std::string_view kGnuMagic("ustar  \0", 8);
constexpr Field kStarTrailer{508, 4}, kStarPrefix{345, 131}, kStarAccess{476, 12}, kStarChange{488, 12};
constexpr std::string_view kStarMagic("tar\0", 4);
// GNU tar also overwrites the prefix with times.
constexpr Field kGnuAccess{345, 12}, kGnuChange{357, 12};

// The pax records that are used.
enum Record : std::size_t {
  kPath,
  kLinkPath,
  kUserId,
  kGroupId,
  kRecordSize,
  kModified,
  kAccessed,
  kChanged,
  kSparseMajor,
  kSparseMinor,
  kSparseName,
  kSparseSize,
  kSparseRealSize,
  kSparseCount,
  kSparseMap,
  kRecordCount
};
constexpr std::array<std::string_view, kRecordCount> kRecordNames{"path",
                                                                  "linkpath",
                                                                  "uid",
                                                                  "gid",
                                                                  "size",
                                                                  "mtime",
                                                                  "atime",
                                                                  "ctime",
                                                                  "GNU.sparse.major",
                                                                  "GNU.sparse.minor",
                                                                  "GNU.sparse.name",
                                                                  "GNU.sparse.size",
                                                                  "GNU.sparse.realsize",
                                                                  "GNU.sparse.numblocks",
                                                                  "GNU.sparse.map"};
// The oldest format of sparse files has a record for each number.
constexpr std::string_view kSparseOffset = "GNU.sparse.offset", kSparseBytes = "GNU.sparse.numbytes";
// Limit for the headers of one member: pax records, a long name and a long target.
constexpr std::uint64_t kMaxHeldHeaderBytes = std::uint64_t{8} << 20;

std::string_view raw(std::span<const std::byte> block, Field field) {
  return as_text(block.subspan(field.offset, field.size));
}

std::string_view text(std::span<const std::byte> block, Field field) {
  const auto all = raw(block, field);
  return all.substr(0, all.find('\0'));
}

// Returns the whole seconds at or before a time such as "1700000000" or "-1.5".
std::optional<std::int64_t> seconds(std::string_view time) {
  const auto point = time.find('.');
  const auto whole_text = time.substr(0, point);
  const auto fraction = point == std::string_view::npos ? std::string_view() : time.substr(point + 1);
  if (!std::all_of(fraction.begin(), fraction.end(), [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  constexpr std::size_t kNanoseconds = 9;  // further digits are ignored
  const auto whole = pax_number(whole_text);
  if (!whole) return std::nullopt;
  const bool below =
      time.starts_with('-') && fraction.substr(0, kNanoseconds).find_first_not_of('0') != std::string_view::npos;
  if (below && *whole == std::numeric_limits<std::int64_t>::min()) return std::nullopt;
  return *whole - (below ? 1 : 0);
}

bool all_zero(std::span<const std::byte> block) {
  return std::all_of(block.begin(), block.end(), [](std::byte b) { return b == std::byte{0}; });
}

// Compares the sum of all bytes, with the checksum itself as blanks; old writers added signed bytes.
bool checksum_holds(std::span<const std::byte> block) {
  const auto stored = tar_octal(block, kChecksum);
  if (!stored) return false;
  std::int64_t plain = 0;
  std::int64_t with_sign = 0;
  for (std::size_t i = 0; i < block.size(); ++i) {
    const bool inside = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.size;
    const auto byte = inside ? std::byte{' '} : block[i];
    plain += std::to_integer<std::uint8_t>(byte);
    with_sign += static_cast<std::int8_t>(byte);
  }
  return *stored == plain || *stored == with_sign;
}

std::optional<std::uint32_t> as_id(std::int64_t value) {
  if (value < 0 || value > std::int64_t{std::numeric_limits<std::uint32_t>::max()}) return std::nullopt;
  return static_cast<std::uint32_t>(value);
}

}  // namespace

std::optional<std::int64_t> tar_number(std::span<const std::byte> block, TarField field) {
  const auto digits = raw(block, field);
  if (!digits.empty() && (static_cast<unsigned char>(digits.front()) & 0x80U) != 0) {
    const bool negative = (static_cast<unsigned char>(digits.front()) & 0x40U) != 0;
    std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
    for (std::size_t i = 0; i < digits.size(); ++i) {
      auto byte = static_cast<unsigned char>(digits[i]);
      if (i == 0) byte = static_cast<unsigned char>(negative ? byte : (byte & 0x7fU));
      // The bits shifted out at the top must be copies of the sign, or the number does not fit.
      const auto top = static_cast<std::uint8_t>(value >> 56U);
      if (top != (negative ? 0xffU : 0U)) return std::nullopt;
      value = (value << 8U) | byte;
    }
    if (negative != ((value >> 63U) != 0)) return std::nullopt;
    return static_cast<std::int64_t>(value);
  }
  return tar_octal(block, field);
}

std::optional<std::int64_t> tar_octal(std::span<const std::byte> block, TarField field) {
  auto digits = raw(block, field);
  constexpr std::string_view kBlank(" \0", 2);
  const auto first = digits.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return 0;
  digits = digits.substr(first, digits.find_last_not_of(kBlank) - first + 1);
  digits = digits.substr(0, digits.find('\0'));
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 8);
  if (error != std::errc() || end != digits.data() + digits.size() || value < 0) return std::nullopt;
  return value;
}

std::optional<std::int64_t> pax_number(std::string_view digits) {
  if (digits.starts_with('+')) {
    digits.remove_prefix(1);
    if (digits.starts_with('-')) return std::nullopt;
  }
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.empty()) return std::nullopt;
  return value;
}

// A parsed header block.
struct TarReader::Header {
  enum class Format { kV7, kUstar, kStar, kGnu };

  // Links, devices, folders and pipes have none, whatever their size field says.
  [[nodiscard]] bool has_content() const { return type < '1' || type > '6'; }

  std::array<std::byte, kBlock> block{};
  Format format = Format::kV7;
  char type = '0';
  std::string name;
  std::string link_target;
  std::int64_t size_bytes = 0;
  std::int64_t mode = 0;
  std::int64_t uid = 0;
  std::int64_t gid = 0;
  std::int64_t mtime = 0;
  std::int64_t device_major = 0;
  std::int64_t device_minor = 0;
};

// The information in the headers that precede a member.
struct TarReader::Extended {
  explicit Extended(Budget& budget) : pax(budget), sparse_map(budget), long_name(budget), long_target(budget) {}

  HeldString pax;                                        // the text of the last pax header
  std::array<std::string_view, kRecordCount> records{};  // its records; empty if absent or without a value
  HeldString sparse_map;  // the numbers of the oldest format of sparse files, in the form of the format after it
  HeldString long_name;
  HeldString long_target;
};

TarReader::TarReader(ByteStream& archive, Budget& budget)
    : archive_(archive),
      budget_(budget),
      headers_("what the extended headers of a file say", kMaxHeldHeaderBytes, budget),
      window_(kWindowBytes) {}

Failure TarReader::malformed(std::string_view reason) const {
  return fail(ErrorCode::kEifBuilding,
              "tar archive, byte " + std::to_string(header_offset_) + ": " + std::string(reason));
}

// Returns the next bytes, at most a window of them; fewer than requested only at the end.
Result<std::span<const std::byte>> TarReader::take(std::size_t size_bytes) {
  if (window_size_ - window_used_ < size_bytes) {
    std::copy(window_.begin() + static_cast<std::ptrdiff_t>(window_used_),
              window_.begin() + static_cast<std::ptrdiff_t>(window_size_), window_.begin());
    window_size_ -= std::exchange(window_used_, 0);
    NITRO_TRY(const auto more, archive_.read(std::span(window_).subspan(window_size_)));
    window_size_ += more;
  }
  const auto size = std::min(size_bytes, window_size_ - window_used_);
  const auto bytes = std::span<const std::byte>(window_).subspan(window_used_, size);
  window_used_ += size;
  position_ += size;
  return bytes;
}

// Skips the next bytes and returns how many there were; fewer than requested only at the end.
Result<std::uint64_t> TarReader::pass(std::uint64_t size_bytes) {
  const auto ahead = std::min<std::uint64_t>(size_bytes, window_size_ - window_used_);
  window_used_ += static_cast<std::size_t>(ahead);
  std::uint64_t behind = 0;
  if (ahead < size_bytes) {
    NITRO_TRY(behind, archive_.skip(size_bytes - ahead));
  }
  position_ += ahead + behind;
  return ahead + behind;
}

// Skips the rest of the last member.
Result<void> TarReader::pass_content() {
  const auto wanted = std::exchange(content_left_, 0);
  NITRO_TRY(const auto content, pass(wanted));
  if (content < wanted) return malformed("the archive ends inside " + quote(name_));
  // The padding after the last member may be missing, as in Go's reader.
  NITRO_CHECK(pass(std::exchange(padding_left_, 0)));
  return {};
}

// Reads the next header. Returns false at the end of the archive.
Result<bool> TarReader::read_header(Header& header) {
  header_offset_ = position_;
  NITRO_TRY(const auto block, take(kBlock));
  if (block.empty()) return false;
  if (block.size() < kBlock) return malformed("the archive ends inside a header");
  if (all_zero(block)) {
    NITRO_TRY(const auto second, take(kBlock));
    if (second.empty() || (second.size() == kBlock && all_zero(second))) return false;
    return malformed("a block of zeros where a header should be");
  }
  if (!checksum_holds(block)) {
    return malformed(header_offset_ == 0 ? "this is not a tar archive" : "the checksum of a header is wrong");
  }
  // Later reads may move the window.
  std::copy(block.begin(), block.end(), header.block.begin());
  NITRO_CHECK(parse_header(header));
  return true;
}

Result<void> TarReader::parse_header(Header& header) const {
  using Format = Header::Format;
  const std::span<const std::byte> block(header.block);
  const auto magic = raw(block, kMagic);
  header.format = magic == kGnuMagic                       ? Format::kGnu
                  : !magic.starts_with(kUstarMagic)        ? Format::kV7
                  : raw(block, kStarTrailer) == kStarMagic ? Format::kStar
                                                           : Format::kUstar;
  bool readable = true;
  const auto number = [&](Field field) {
    const auto value = tar_number(block, field);
    readable = readable && value.has_value();
    return value.value_or(0);
  };
  header.type = std::to_integer<char>(block[kTypeFlag]);
  header.name = text(block, kName);
  header.link_target = text(block, kLinkName);
  header.size_bytes = number(kSize);
  header.mode = number(kMode);
  header.uid = number(kUid);
  header.gid = number(kGid);
  header.mtime = number(kMtime);
  header.device_major = header.format == Format::kV7 ? 0 : number(kDeviceMajor);
  header.device_minor = header.format == Format::kV7 ? 0 : number(kDeviceMinor);
  std::string_view prefix;
  if (header.format == Format::kUstar) prefix = text(block, kPrefix);
  if (header.format == Format::kStar) {
    prefix = text(block, kStarPrefix);
    number(kStarAccess);
    number(kStarChange);
  }
  if (header.format == Format::kGnu) {
    // Go's writer once put a prefix where GNU tar has times; it is recognised by not being a valid time.
    const auto is_time = [&](Field field) {
      return block[field.offset] == std::byte{0} || tar_number(block, field).has_value();
    };
    const auto ascii = [](std::string_view characters) {
      return std::all_of(characters.begin(), characters.end(), [](char c) { return static_cast<signed char>(c) >= 0; });
    };
    const bool times = is_time(kGnuAccess) && is_time(kGnuChange);
    if (const auto written = text(block, kPrefix); !times && ascii(written)) prefix = written;
  }
  if (!readable) return malformed("a number in a header cannot be read");
  if (!prefix.empty()) header.name = std::string(prefix) + "/" + header.name;
  if (header.size_bytes < 0 && header.has_content()) return malformed("the size in a header is negative");
  return {};
}

// Returns the content of a member that is itself a header.
Result<HeldString> TarReader::extended_content(const Header& header) {
  const auto size = static_cast<std::uint64_t>(header.size_bytes);
  if (size > kMaxExtendedHeaderBytes) {
    return malformed("an extended header of " + std::to_string(size) + " bytes is longer than the " +
                     std::to_string(kMaxExtendedHeaderBytes) + " that are read");
  }
  HeldString content(headers_);
  while (content.size() < size) {
    NITRO_TRY(const auto bytes, take(std::min<std::size_t>(kBlock, static_cast<std::size_t>(size) - content.size())));
    if (bytes.empty()) return malformed("the archive ends inside an extended header");
    content += as_text(bytes);
  }
  NITRO_CHECK(pass((kBlock - size % kBlock) % kBlock));
  return content;
}

// Parses records of the form "LENGTH KEY=VALUE\n", where LENGTH counts the whole record.
Result<void> TarReader::parse_records(Extended& extended) const {
  extended.records.fill({});
  extended.sparse_map.clear();
  std::size_t sparse_numbers = 0;
  std::string_view rest(extended.pax);
  while (!rest.empty()) {
    const auto blank = rest.find(' ');
    if (blank == std::string_view::npos) return malformed("a pax record without a length");
    constexpr std::int64_t kShortest = 5;  // "5 k=\n"
    const auto length = pax_number(rest.substr(0, blank));
    if (!length || *length < kShortest || *length <= static_cast<std::int64_t>(blank) + 1 ||
        static_cast<std::uint64_t>(*length) > rest.size()) {
      return malformed("a pax record with a wrong length");
    }
    auto record = rest.substr(blank + 1, static_cast<std::size_t>(*length) - blank - 1);
    rest.remove_prefix(static_cast<std::size_t>(*length));
    if (!record.ends_with('\n')) return malformed("a pax record that does not end with its line");
    record.remove_suffix(1);
    const auto equals = record.find('=');
    if (equals == std::string_view::npos || equals == 0) return malformed("a pax record without a key");
    const auto key = record.substr(0, equals);
    const auto value = record.substr(equals + 1);
    const bool is_name = key == "path" || key == "linkpath" || key == "uname" || key == "gname";
    if ((is_name ? value : key).find('\0') != std::string_view::npos) return malformed("a pax record with a zero byte");
    if (key == kSparseOffset || key == kSparseBytes) {
      if ((key == kSparseOffset) != (sparse_numbers % 2 == 0) || value.find(',') != std::string_view::npos) {
        return malformed("a pax record of a sparse file is out of order or no number");
      }
      if (sparse_numbers++ > 0) extended.sparse_map += ',';
      extended.sparse_map += value;
      continue;
    }
    const auto* const known = std::find(kRecordNames.begin(), kRecordNames.end(), key);
    if (known != kRecordNames.end()) {
      extended.records.at(static_cast<std::size_t>(known - kRecordNames.begin())) = value;
    }
  }
  if (sparse_numbers > 0) extended.records[kSparseMap] = extended.sparse_map;
  return {};
}

// Fails if a number or a time among the records is invalid, used or not.
Result<void> TarReader::check_records(const Extended& extended) const {
  for (const auto record : {kUserId, kGroupId, kRecordSize}) {
    if (const auto value = extended.records.at(record); !value.empty() && !pax_number(value)) {
      return malformed("the pax record " + quote(kRecordNames.at(record)) + " is not a number");
    }
  }
  for (const auto record : {kModified, kAccessed, kChanged}) {
    if (const auto value = extended.records.at(record); !value.empty() && !seconds(value)) {
      return malformed("the pax record " + quote(kRecordNames.at(record)) + " is not a time");
    }
  }
  return {};
}

// Sets name, owner, time, kind and content size of a member from its header and the headers that precede it.
Result<void> TarReader::begin_entry(const Header& header, const Extended& extended, TarEntry& entry) {
  const auto& records = extended.records;
  const auto either = [&records](Record record, std::int64_t own) {
    return records.at(record).empty() ? own : *pax_number(records.at(record));
  };
  entry = TarEntry();
  entry.name = records[kPath].empty() ? std::string_view(header.name) : records[kPath];
  if (!extended.long_name.empty()) entry.name = extended.long_name;
  entry.link_target = records[kLinkPath].empty() ? std::string_view(header.link_target) : records[kLinkPath];
  if (!extended.long_target.empty()) entry.link_target = extended.long_target;
  entry.mode = static_cast<std::uint32_t>(header.mode) & 07777U;
  entry.mtime = records[kModified].empty() ? header.mtime : *seconds(records[kModified]);
  entry.device_major = static_cast<std::uint32_t>(header.device_major);
  entry.device_minor = static_cast<std::uint32_t>(header.device_minor);
  const auto owner = as_id(either(kUserId, header.uid));
  const auto group = as_id(either(kGroupId, header.gid));
  if (!owner || !group) return malformed("the owner of " + quote(entry.name) + " is not a user or group number");
  entry.uid = *owner;
  entry.gid = *group;

  entry.type_flag = header.type == '\0' ? '0' : header.type;
  switch (header.type) {
    case '\0':
      // Archives from before folders had a type.
      entry.type = entry.name.ends_with('/') ? FileType::kDirectory : FileType::kRegular;
      break;
    case '0':
      break;
    case 'S':
      entry.type_flag = '0';
      break;
    case '1':
      entry.kind = TarEntry::Kind::kHardLink;
      break;
    case '2':
      entry.type = FileType::kSymlink;
      break;
    case '3':
      entry.type = FileType::kCharDevice;
      break;
    case '4':
      entry.type = FileType::kBlockDevice;
      break;
    case '5':
      entry.type = FileType::kDirectory;
      break;
    case '6':
      entry.type = FileType::kFifo;
      break;
    default:
      entry.kind = TarEntry::Kind::kUnsupported;
  }
  const bool has_content = header.has_content() && entry.type != FileType::kDirectory;
  const auto size = has_content ? either(kRecordSize, header.size_bytes) : 0;
  if (size < 0) return malformed("the pax record \"size\" is not a size");
  content_left_ = static_cast<std::uint64_t>(size);
  padding_left_ = (kBlock - content_left_ % kBlock) % kBlock;
  return {};
}

Result<void> TarReader::read_gnu_sparse_map(const Header& header, TarEntry& entry) {
  if (header.format != Header::Format::kGnu) {
    return malformed("a sparse file of GNU tar in an archive of another kind");
  }
  const auto size = tar_number(header.block, kGnuRealSize);
  if (!size || *size < 0) return malformed("the size of a sparse file cannot be read");
  entry.size_bytes = static_cast<std::uint64_t>(*size);
  auto& regions = entry.regions.emplace(budget_);
  NITRO_CHECK(add_gnu_sparse_regions(header.block, kGnuSparse, kGnuSparseCount, regions));
  bool more = header.block[kGnuSparseMore] != std::byte{0};
  for (std::size_t map_bytes = kBlock; more; map_bytes += kBlock) {
    if (map_bytes >= kMaxExtendedHeaderBytes) return malformed("the map of a sparse file is too long");
    NITRO_TRY(const auto block, take(kBlock));
    if (block.size() < kBlock) return malformed("the archive ends inside the map of a sparse file");
    NITRO_CHECK(add_gnu_sparse_regions(block, 0, kGnuExtensionCount, regions));
    more = block[kGnuExtensionMore] != std::byte{0};
  }
  return {};
}

// Reads the map of the newest format, which precedes the content: the number of regions, then their numbers, each on
// its own line, padded to a whole block.
Result<void> TarReader::read_stored_sparse_map(SparseRegions& regions) {
  HeldString map(headers_);
  std::uint64_t lines = 0;
  std::optional<std::uint64_t> count;
  while (!count || lines < 1 + 2 * *count) {
    if (map.size() >= kMaxExtendedHeaderBytes) {
      return malformed("the map of a sparse file is longer than the " + std::to_string(kMaxExtendedHeaderBytes) +
                       " bytes that are read");
    }
    if (content_left_ < kBlock) return malformed("the map of a sparse file is cut off");
    NITRO_TRY(const auto block, take(kBlock));
    if (block.size() < kBlock) return malformed("the archive ends inside the map of a sparse file");
    content_left_ -= kBlock;
    map += as_text(block);
    lines += static_cast<std::uint64_t>(std::count(block.begin(), block.end(), std::byte{'\n'}));
    if (!count && lines > 0) {
      const auto number = pax_number(std::string_view(map).substr(0, map.find('\n')));
      if (!number || *number < 0 || *number > static_cast<std::int64_t>(kMaxSparseRegions)) {
        return malformed("the number of regions of a sparse file cannot be read or is too large");
      }
      count = static_cast<std::uint64_t>(*number);
    }
  }
  return add_pax_sparse_regions(std::string_view(map).substr(map.find('\n') + 1), '\n', *count, regions);
}

Result<void> TarReader::read_pax_sparse_map(const Extended& extended, TarEntry& entry) {
  const auto& records = extended.records;
  const auto version = std::pair(records[kSparseMajor], records[kSparseMinor]);
  const bool stored = version == std::pair<std::string_view, std::string_view>("1", "0");
  const bool in_records = version.first == "0" && (version.second == "0" || version.second == "1");
  // The two older formats need not state their version.
  const bool untold = version.first.empty() && version.second.empty() && !records[kSparseMap].empty();
  if (!stored && !in_records && !untold) return {};

  if (!records[kSparseName].empty()) entry.name = records[kSparseName];
  const auto size_text = records[kSparseSize].empty() ? records[kSparseRealSize] : records[kSparseSize];
  if (!size_text.empty()) {
    const auto size = pax_number(size_text);
    if (!size || *size < 0) return malformed("the size of a sparse file cannot be read");
    entry.size_bytes = static_cast<std::uint64_t>(*size);
  }
  auto& regions = entry.regions.emplace(budget_);
  if (stored) return read_stored_sparse_map(regions);
  const auto map = records[kSparseMap];
  const auto numbers = map.empty() ? 0 : static_cast<std::uint64_t>(std::count(map.begin(), map.end(), ',')) + 1;
  const auto count = pax_number(records[kSparseCount]);
  if (!count || *count < 0 || numbers % 2 != 0 || static_cast<std::uint64_t>(*count) != numbers / 2) {
    return malformed("a map of a sparse file has another number of regions than it says");
  }
  return add_pax_sparse_regions(map, ',', numbers / 2, regions);
}

// Reads which parts of a sparse file the archive stores.
Result<void> TarReader::read_sparse_map(const Header& header, const Extended& extended, TarEntry& entry) {
  const bool is_file = entry.kind == TarEntry::Kind::kFile && entry.type == FileType::kRegular;
  if (is_file) entry.size_bytes = content_left_;
  NITRO_CHECK(header.type == 'S' ? read_gnu_sparse_map(header, entry) : read_pax_sparse_map(extended, entry));
  if (!entry.regions) return {};
  if (!is_file) return malformed("something else than a file has the map of a sparse file");
  if (auto held = check_sparse_regions(*entry.regions, entry.size_bytes, content_left_); !held) {
    return malformed(held.error().message());
  }
  return {};
}

Result<bool> TarReader::read_member(TarEntry& entry) {
  NITRO_CHECK(pass_content());
  Header header;
  Extended extended(headers_);
  for (;;) {
    NITRO_TRY(const bool more, read_header(header));
    if (!more) return false;
    if (header.type == 'L' || header.type == 'K') {
      auto& text = header.type == 'L' ? extended.long_name : extended.long_target;
      NITRO_TRY(text, extended_content(header));
      text.resize(std::min(text.find('\0'), text.size()));
      continue;
    }
    if (header.type != 'x' && header.type != 'g') break;
    NITRO_TRY(extended.pax, extended_content(header));
    NITRO_CHECK(parse_records(extended));
    if (header.type == 'x') continue;
    entry = TarEntry();
    entry.kind = TarEntry::Kind::kGlobalHeader;
    entry.type_flag = header.type;
    entry.name = extended.records[kPath].empty() ? std::string_view(header.name) : extended.records[kPath];
    return true;
  }
  NITRO_CHECK(check_records(extended));
  NITRO_CHECK(begin_entry(header, extended, entry));
  NITRO_CHECK(read_sparse_map(header, extended, entry));
  entry.data_offset_bytes = position_;
  return true;
}

Result<bool> TarReader::next(TarEntry& entry) {
  NITRO_TRY(const bool more, Budget::run([&] { return read_member(entry); }));
  if (!more) return false;
  if (entry.name.find('\0') != std::string::npos || entry.link_target.find('\0') != std::string::npos) {
    return malformed("a name contains a zero byte");
  }
  if (entry.name.size() > kMaxPathBytes || entry.link_target.size() > kMaxPathBytes) {
    return malformed("a name is longer than " + std::to_string(kMaxPathBytes) + " bytes");
  }
  name_ = entry.name;
  return true;
}

}  // namespace nitro::image
