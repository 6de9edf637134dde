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
#include "nitro/bytes.h"

namespace nitro::image {

namespace {

constexpr std::size_t kBlock = kTarBlock;
// Large enough to find the headers of many small files with one read, small enough not to read much of large ones.
constexpr std::size_t kWindowBytes = std::size_t{32} << 10;

// Fields of a header (POSIX.1-1988, ustar).
using Field = TarField;
constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12}, kMtime{136, 12},
    kChecksum{148, 8}, kLinkName{157, 100}, kMagic{257, 8}, kDeviceMajor{329, 8}, kDeviceMinor{337, 8},
    kPrefix{345, 155};
constexpr std::size_t kTypeFlag = 156;
// What GNU tar writes over the prefix in the header of a sparse file: four regions, whether more follow in blocks of
// their own (21 regions each), and the size of the file.
constexpr std::size_t kGnuSparse = 386, kGnuSparseCount = 4, kGnuSparseMore = 482;
constexpr Field kGnuRealSize{483, 12};
constexpr std::size_t kGnuExtensionCount = 21, kGnuExtensionMore = 504;
// pax records of sparse files.
constexpr std::string_view kSparseMap = "GNU.sparse.map", kSparseOffset = "GNU.sparse.offset",
                           kSparseSize = "GNU.sparse.numbytes";
constexpr std::string_view kUstarMagic("ustar\00000", 8);
constexpr std::string_view kGnuMagic("ustar  \0", 8);

std::string_view raw(std::span<const std::byte> block, Field field) {
  return as_text(block.subspan(field.offset, field.size));
}

std::string_view text(std::span<const std::byte> block, Field field) {
  const auto all = raw(block, field);
  return all.substr(0, all.find('\0'));
}

// "1700000000", "-1.5": the whole seconds at or before it.
std::optional<std::int64_t> seconds(std::string_view time) {
  const auto point = time.find('.');
  const auto whole_text = time.substr(0, point);
  const auto fraction = point == std::string_view::npos ? std::string_view() : time.substr(point + 1);
  if (!std::all_of(fraction.begin(), fraction.end(), [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  const auto whole = pax_number(whole_text);
  if (!whole) return std::nullopt;
  const bool below = time.starts_with('-') && fraction.find_first_not_of('0') != std::string_view::npos;
  if (below && *whole == std::numeric_limits<std::int64_t>::min()) return std::nullopt;
  return *whole - (below ? 1 : 0);
}

bool all_zero(std::span<const std::byte> block) {
  return std::all_of(block.begin(), block.end(), [](std::byte b) { return b == std::byte{0}; });
}

// The sum of all bytes with the checksum itself taken as blanks; old writers added signed bytes.
bool checksum_holds(std::span<const std::byte> block) {
  const auto stored = tar_number(block, kChecksum);
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
  auto digits = raw(block, field);
  if (!digits.empty() && (static_cast<unsigned char>(digits.front()) & 0x80U) != 0) {
    const bool negative = (static_cast<unsigned char>(digits.front()) & 0x40U) != 0;
    std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
    for (std::size_t i = 0; i < digits.size(); ++i) {
      auto byte = static_cast<unsigned char>(digits[i]);
      if (i == 0) byte = static_cast<unsigned char>(negative ? byte : (byte & 0x7fU));
      // The bits that leave at the top must be copies of the sign, or the number does not fit.
      const auto top = static_cast<std::uint8_t>(value >> 56U);
      if (top != (negative ? 0xffU : 0U)) return std::nullopt;
      value = (value << 8U) | byte;
    }
    if (negative != ((value >> 63U) != 0)) return std::nullopt;
    return static_cast<std::int64_t>(value);
  }
  constexpr std::string_view kBlank(" \0", 2);
  const auto first = digits.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return 0;
  digits = digits.substr(first, digits.find_last_not_of(kBlank) - first + 1);
  digits = digits.substr(0, digits.find('\0'));
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, 8);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

std::optional<std::int64_t> pax_number(std::string_view digits) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.empty()) return std::nullopt;
  return value;
}

TarReader::TarReader(ByteStream& archive) : archive_(archive), window_(kWindowBytes) {}

Failure TarReader::malformed(std::string_view reason) const {
  return fail(ErrorCode::kEifBuilding,
              "tar archive, byte " + std::to_string(header_offset_) + ": " + std::string(reason));
}

// The next bytes, at most a window of them; fewer than asked for at the end only.
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

// Passes over the next bytes and returns how many there were; fewer than asked for at the end only.
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

// Passes over what is left of the last member.
Result<void> TarReader::pass_content() {
  const auto wanted = std::exchange(content_left_, 0);
  NITRO_TRY(const auto content, pass(wanted));
  if (content < wanted) return malformed("the archive ends inside " + quote(name_));
  // The padding behind the last member may be missing, as in Go's reader.
  NITRO_CHECK(pass(std::exchange(padding_left_, 0)));
  return {};
}

// The content of the member in work, which is a header for the next one.
Result<std::string> TarReader::special_content(std::uint64_t size_bytes) {
  if (size_bytes > kMaxExtendedHeaderBytes) {
    return malformed("an extended header of " + std::to_string(size_bytes) + " bytes is longer than the " +
                     std::to_string(kMaxExtendedHeaderBytes) + " that are read");
  }
  std::string content;
  while (content.size() < size_bytes) {
    NITRO_TRY(const auto bytes,
              take(std::min<std::size_t>(kBlock, static_cast<std::size_t>(size_bytes) - content.size())));
    if (bytes.empty()) return malformed("the archive ends inside an extended header");
    content += as_text(bytes);
  }
  NITRO_CHECK(pass((kBlock - size_bytes % kBlock) % kBlock));
  return content;
}

// The value of a record; empty when it is absent, which is what an empty value means, too.
std::string_view TarReader::record(const Records& records, std::string_view key) {
  const auto found = records.find(key);
  return found == records.end() ? std::string_view() : std::string_view(found->second);
}

// Records of the form "LENGTH KEY=VALUE\n", where LENGTH counts the whole record.
Result<void> TarReader::parse_records(std::string_view text, Records& records) const {
  while (!text.empty()) {
    const auto blank = text.find(' ');
    if (blank == std::string_view::npos) return malformed("a pax record without a length");
    const auto length = pax_number(text.substr(0, blank));
    if (!length || *length <= static_cast<std::int64_t>(blank) + 1 ||
        static_cast<std::uint64_t>(*length) > text.size()) {
      return malformed("a pax record with a wrong length");
    }
    auto record = text.substr(blank + 1, static_cast<std::size_t>(*length) - blank - 1);
    text.remove_prefix(static_cast<std::size_t>(*length));
    if (!record.ends_with('\n')) return malformed("a pax record that does not end with its line");
    record.remove_suffix(1);
    const auto equals = record.find('=');
    if (equals == std::string_view::npos || equals == 0) return malformed("a pax record without a key");
    const auto key = record.substr(0, equals);
    const auto value = record.substr(equals + 1);
    if (key == kSparseOffset || key == kSparseSize) {
      // The oldest format has a record for each number. They become the list of the format after it.
      auto& list = records[std::string(kSparseMap)];
      if (value.find(',') != std::string_view::npos) return malformed("a pax record of a sparse file is no number");
      if (!list.empty()) list += ',';
      list += value;
    } else {
      records[std::string(key)] = std::string(value);
    }
  }
  return {};
}

// What the extended header in front of a member says of it.
Result<void> TarReader::apply_records(const Records& records, TarEntry& entry) {
  if (const auto path = record(records, "path"); !path.empty()) entry.name = path;
  if (const auto target = record(records, "linkpath"); !target.empty()) entry.link_target = target;
  if (const auto size = record(records, "size"); !size.empty()) {
    const auto parsed = pax_number(size);
    if (!parsed || *parsed < 0) return malformed("the pax record \"size\" is not a size");
    content_left_ = static_cast<std::uint64_t>(*parsed);
  }
  for (const auto& [key, id] : {std::pair("uid", &entry.uid), std::pair("gid", &entry.gid)}) {
    const auto value = record(records, key);
    if (value.empty()) continue;
    const auto number = pax_number(value);
    const auto parsed = number ? as_id(*number) : std::nullopt;
    if (!parsed) return malformed("the pax record " + quote(key) + " is not a user or group number");
    *id = *parsed;
  }
  if (const auto time = record(records, "mtime"); !time.empty()) {
    const auto parsed = seconds(time);
    if (!parsed) return malformed("the pax record \"mtime\" is not a time");
    entry.mtime = *parsed;
  }
  return {};
}

Result<void> TarReader::read_gnu_sparse_map(std::span<const std::byte> header, TarEntry& entry) {
  const auto size = tar_number(header, kGnuRealSize);
  if (!size || *size < 0) return malformed("the size of a sparse file cannot be read");
  entry.size_bytes = static_cast<std::uint64_t>(*size);
  auto& regions = entry.regions.emplace();
  NITRO_CHECK(add_gnu_sparse_regions(header, kGnuSparse, kGnuSparseCount, regions));
  bool more = header[kGnuSparseMore] != std::byte{0};
  while (more) {
    NITRO_TRY(const auto block, take(kBlock));
    if (block.size() < kBlock) return malformed("the archive ends inside the map of a sparse file");
    NITRO_CHECK(add_gnu_sparse_regions(block, 0, kGnuExtensionCount, regions));
    more = block[kGnuExtensionMore] != std::byte{0};
  }
  return {};
}

// The newest format has its map in front of the content: the number of regions, then their numbers, each on a line of
// its own, filled up to a whole block.
Result<SparseRegions> TarReader::read_stored_sparse_map() {
  std::string text;
  std::uint64_t lines = 0;
  std::optional<std::uint64_t> wanted;
  while (!wanted || lines < *wanted) {
    if (text.size() >= kMaxExtendedHeaderBytes) {
      return malformed("the map of a sparse file is longer than the " + std::to_string(kMaxExtendedHeaderBytes) +
                       " bytes that are read");
    }
    if (content_left_ < kBlock) return malformed("the map of a sparse file is cut off");
    NITRO_TRY(const auto block, take(kBlock));
    if (block.size() < kBlock) return malformed("the archive ends inside the map of a sparse file");
    content_left_ -= kBlock;
    text += as_text(block);
    lines += static_cast<std::uint64_t>(std::count(block.begin(), block.end(), std::byte{'\n'}));
    if (!wanted && lines > 0) {
      const auto count = pax_number(std::string_view(text).substr(0, text.find('\n')));
      if (!count || *count < 0 || *count > static_cast<std::int64_t>(kMaxSparseRegions)) {
        return malformed("the number of regions of a sparse file cannot be read or is too large");
      }
      wanted = 1 + 2 * static_cast<std::uint64_t>(*count);
    }
  }
  std::vector<std::string_view> numbers;
  std::string_view rest(text);
  for (std::uint64_t i = 0; i < *wanted; ++i) {
    const auto end = rest.find('\n');
    if (i > 0) numbers.push_back(rest.substr(0, end));
    rest.remove_prefix(end + 1);
  }
  return pax_sparse_regions(numbers);
}

Result<void> TarReader::read_pax_sparse_map(const Records& records, TarEntry& entry) {
  const bool stored_map = record(records, "GNU.sparse.major") == "1" && record(records, "GNU.sparse.minor") == "0";
  const auto map = record(records, kSparseMap);
  // Of a version that nobody knows, as in Go's reader: a file like others.
  if (!stored_map && map.empty()) return {};

  if (const auto name = record(records, "GNU.sparse.name"); !name.empty()) entry.name = name;
  auto size_text = record(records, "GNU.sparse.size");
  if (size_text.empty()) size_text = record(records, "GNU.sparse.realsize");
  const auto size = pax_number(size_text);
  if (!size || *size < 0) return malformed("the size of a sparse file cannot be read");
  entry.size_bytes = static_cast<std::uint64_t>(*size);
  if (stored_map) {
    NITRO_TRY(entry.regions, read_stored_sparse_map());
    return {};
  }
  std::vector<std::string_view> numbers;
  for (std::size_t start = 0; start <= map.size();) {
    const auto comma = std::min(map.find(',', start), map.size());
    numbers.push_back(map.substr(start, comma - start));
    start = comma + 1;
  }
  NITRO_TRY(entry.regions, pax_sparse_regions(numbers));
  return {};
}

Result<bool> TarReader::next(TarEntry& entry) {
  NITRO_CHECK(pass_content());
  Records records;
  std::string long_name;
  std::string long_link;
  bool extended = false;  // an extended header waits for its member
  for (;;) {
    header_offset_ = position_;
    NITRO_TRY(const auto taken, take(kBlock));
    if (taken.empty()) {
      if (extended) return malformed("the archive ends after an extended header");
      return false;
    }
    if (taken.size() < kBlock) return malformed("the archive ends inside a header");
    if (all_zero(taken)) {
      NITRO_TRY(const auto second, take(kBlock));
      if (second.size() == kBlock && !all_zero(second)) return malformed("a block of zeros where a header should be");
      return false;
    }
    if (!checksum_holds(taken)) {
      return malformed(header_offset_ == 0 ? "this is not a tar archive" : "the checksum of a header is wrong");
    }
    // What is taken later may move the window.
    std::array<std::byte, kBlock> header{};
    std::copy(taken.begin(), taken.end(), header.begin());
    const std::span<const std::byte> block(header);

    const auto size = tar_number(block, kSize);
    const auto mode = tar_number(block, kMode);
    const auto uid = tar_number(block, kUid);
    const auto gid = tar_number(block, kGid);
    const auto mtime = tar_number(block, kMtime);
    if (!size || *size < 0 || !mode || !uid || !gid || !mtime) return malformed("a number in a header cannot be read");

    const auto type = std::to_integer<char>(block[kTypeFlag]);
    if (type == 'x' || type == 'g' || type == 'L' || type == 'K') {
      NITRO_TRY(const auto content, special_content(static_cast<std::uint64_t>(*size)));
      if (type == 'g') continue;  // global records (git writes its commit there) carry nothing we use
      extended = true;
      if (type == 'x') NITRO_CHECK(parse_records(content, records));
      if (type == 'L') long_name = content.substr(0, content.find('\0'));
      if (type == 'K') long_link = content.substr(0, content.find('\0'));
      continue;
    }

    entry = TarEntry();
    entry.type_flag = type == '\0' ? '0' : type;
    const auto magic = raw(block, kMagic);
    entry.name = text(block, kName);
    if (magic == kUstarMagic) {
      if (const auto prefix = text(block, kPrefix); !prefix.empty())
        entry.name = std::string(prefix) + "/" + entry.name;
    }
    entry.link_target = text(block, kLinkName);
    if (magic == kUstarMagic || magic == kGnuMagic) {
      const auto device_major = tar_number(block, kDeviceMajor);
      const auto device_minor = tar_number(block, kDeviceMinor);
      if (!device_major || !device_minor) return malformed("a device number cannot be read");
      entry.device_major = static_cast<std::uint32_t>(*device_major);
      entry.device_minor = static_cast<std::uint32_t>(*device_minor);
    }
    if (!long_name.empty()) entry.name = long_name;
    if (!long_link.empty()) entry.link_target = long_link;
    entry.mode = static_cast<std::uint32_t>(*mode) & 07777U;
    entry.mtime = *mtime;
    content_left_ = static_cast<std::uint64_t>(*size);
    // An extended header may give the owner that a header has no room for.
    const auto owner = record(records, "uid").empty() ? as_id(*uid) : 0;
    const auto group = record(records, "gid").empty() ? as_id(*gid) : 0;
    if (!owner || !group) return malformed("the owner of " + quote(entry.name) + " is not a user or group number");
    entry.uid = *owner;
    entry.gid = *group;
    NITRO_CHECK(apply_records(records, entry));

    bool has_content = false;
    switch (entry.type_flag) {
      case '0':
        entry.type = entry.name.ends_with('/') ? FileType::kDirectory : FileType::kRegular;
        has_content = true;
        break;
      case 'S':
        if (magic != kGnuMagic) return malformed("a sparse file of GNU tar in an archive of another kind");
        entry.type_flag = '0';
        has_content = true;
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
        has_content = true;
    }
    if (!has_content) content_left_ = 0;
    padding_left_ = (kBlock - content_left_ % kBlock) % kBlock;
    if (entry.kind == TarEntry::Kind::kFile && entry.type == FileType::kRegular) {
      entry.size_bytes = content_left_;
      if (type == 'S') {
        NITRO_CHECK(read_gnu_sparse_map(block, entry));
      } else {
        NITRO_CHECK(read_pax_sparse_map(records, entry));
      }
      if (entry.regions) {
        if (auto held = check_sparse_regions(*entry.regions, entry.size_bytes, content_left_); !held)
          return malformed(held.error().message());
      }
    }
    entry.data_offset_bytes = position_;
    if (entry.name.find('\0') != std::string::npos || entry.link_target.find('\0') != std::string::npos) {
      return malformed("a name contains a zero byte");
    }
    if (entry.name.size() > kMaxPathBytes || entry.link_target.size() > kMaxPathBytes) {
      return malformed("a name is longer than " + std::to_string(kMaxPathBytes) + " bytes");
    }
    name_ = entry.name;
    return true;
  }
}

}  // namespace nitro::image
