// SPDX-License-Identifier: Apache-2.0
#include "eif/image/tar.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <optional>

#include "nitro/bytes.h"

namespace nitro::image {

namespace {

constexpr std::size_t kBlock = 512;
// Large enough to find the headers of many small files with one read, small enough not to read much of large ones.
constexpr std::size_t kWindowBytes = std::size_t{32} << 10;

// Fields of a header (POSIX.1-1988, ustar): offset and size in bytes.
struct Field {
  std::size_t offset;
  std::size_t size;
};
constexpr Field kName{0, 100}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12}, kMtime{136, 12},
    kChecksum{148, 8}, kLinkName{157, 100}, kMagic{257, 8}, kDeviceMajor{329, 8}, kDeviceMinor{337, 8},
    kPrefix{345, 155};
constexpr std::size_t kTypeFlag = 156;
constexpr std::string_view kUstarMagic("ustar\00000", 8);
constexpr std::string_view kGnuMagic("ustar  \0", 8);

std::string_view raw(std::span<const std::byte> block, Field field) {
  return as_text(block.subspan(field.offset, field.size));
}

std::string_view text(std::span<const std::byte> block, Field field) {
  const auto all = raw(block, field);
  return all.substr(0, all.find('\0'));
}

// Octal digits between blanks and zeros, or, when the highest bit is set, a big-endian number in two's complement (GNU,
// star).
std::optional<std::int64_t> number(std::span<const std::byte> block, Field field) {
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

std::optional<std::int64_t> decimal(std::string_view digits) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.empty()) return std::nullopt;
  return value;
}

// "1700000000", "-1.5": the whole seconds at or before it.
std::optional<std::int64_t> seconds(std::string_view time) {
  const auto point = time.find('.');
  const auto whole_text = time.substr(0, point);
  const auto fraction = point == std::string_view::npos ? std::string_view() : time.substr(point + 1);
  if (!std::all_of(fraction.begin(), fraction.end(), [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  const auto whole = decimal(whole_text);
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
  const auto stored = number(block, kChecksum);
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

TarReader::TarReader(Extent archive) : archive_(std::move(archive)), window_(kWindowBytes) {}

Failure TarReader::malformed(std::string_view reason) const {
  return fail(ErrorCode::kEifBuilding,
              "tar archive, byte " + std::to_string(header_offset_) + ": " + std::string(reason));
}

Result<std::span<const std::byte>> TarReader::block_at(std::uint64_t offset_bytes) {
  if (offset_bytes < window_offset_ || offset_bytes + kBlock > window_offset_ + window_size_) {
    window_size_ =
        static_cast<std::size_t>(std::min<std::uint64_t>(window_.size(), archive_.size_bytes - offset_bytes));
    window_offset_ = offset_bytes;
    NITRO_CHECK(archive_.read(offset_bytes, std::span(window_).first(window_size_)));
  }
  return std::span<const std::byte>(window_).subspan(static_cast<std::size_t>(offset_bytes - window_offset_), kBlock);
}

// The content of the member in work, which is a header for the next one.
Result<std::string> TarReader::special_content(std::uint64_t size_bytes) {
  if (size_bytes > kMaxExtendedHeaderBytes) {
    return malformed("an extended header of " + std::to_string(size_bytes) + " bytes is longer than the " +
                     std::to_string(kMaxExtendedHeaderBytes) + " that are read");
  }
  if (archive_.size_bytes - position_ < size_bytes) return malformed("the archive ends inside an extended header");
  std::string content(static_cast<std::size_t>(size_bytes), '\0');
  NITRO_CHECK(archive_.read(position_, std::as_writable_bytes(std::span(content.data(), content.size()))));
  position_ = std::min(archive_.size_bytes, position_ + (size_bytes + kBlock - 1) / kBlock * kBlock);
  return content;
}

// Records of the form "LENGTH KEY=VALUE\n", where LENGTH counts the whole record.
Result<void> TarReader::parse_records(std::string_view text, Records& records) const {
  while (!text.empty()) {
    const auto blank = text.find(' ');
    if (blank == std::string_view::npos) return malformed("a pax record without a length");
    const auto length = decimal(text.substr(0, blank));
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
    records[std::string(record.substr(0, equals))] = std::string(record.substr(equals + 1));
  }
  return {};
}

Result<bool> TarReader::next(TarEntry& entry) {
  Records records;
  std::string long_name;
  std::string long_link;
  bool extended = false;  // an extended header waits for its member
  for (;;) {
    header_offset_ = position_;
    const auto left = archive_.size_bytes - position_;
    if (left == 0) {
      if (extended) return malformed("the archive ends after an extended header");
      return false;
    }
    if (left < kBlock) return malformed("the archive ends inside a header");
    NITRO_TRY(const auto block, block_at(position_));
    position_ += kBlock;
    if (all_zero(block)) {
      if (archive_.size_bytes - position_ < kBlock) return false;
      NITRO_TRY(const auto second, block_at(position_));
      if (!all_zero(second)) return malformed("a block of zeros where a header should be");
      return false;
    }
    if (!checksum_holds(block)) {
      return malformed(header_offset_ == 0 ? "this is not a tar archive" : "the checksum of a header is wrong");
    }

    const auto size = number(block, kSize);
    const auto mode = number(block, kMode);
    const auto uid = number(block, kUid);
    const auto gid = number(block, kGid);
    const auto mtime = number(block, kMtime);
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
      const auto device_major = number(block, kDeviceMajor);
      const auto device_minor = number(block, kDeviceMinor);
      if (!device_major || !device_minor) return malformed("a device number cannot be read");
      entry.device_major = static_cast<std::uint32_t>(*device_major);
      entry.device_minor = static_cast<std::uint32_t>(*device_minor);
    }
    if (!long_name.empty()) entry.name = long_name;
    if (!long_link.empty()) entry.link_target = long_link;

    auto content_size = static_cast<std::uint64_t>(*size);
    auto owner = as_id(*uid);
    auto group = as_id(*gid);
    entry.mtime = *mtime;
    for (const auto& [key, value] : records) {
      if (key.starts_with("GNU.sparse.")) {
        return malformed("sparse files are not supported in archives; write the archive without --sparse");
      }
      if (value.empty()) continue;
      if (key == "path") entry.name = value;
      if (key == "linkpath") entry.link_target = value;
      if (key == "size") {
        const auto parsed = decimal(value);
        if (!parsed || *parsed < 0) return malformed("the pax record \"size\" is not a size");
        content_size = static_cast<std::uint64_t>(*parsed);
      }
      if (key == "uid" || key == "gid") {
        const auto parsed = decimal(value);
        (key == "uid" ? owner : group) = parsed ? as_id(*parsed) : std::nullopt;
      }
      if (key == "mtime") {
        const auto parsed = seconds(value);
        if (!parsed) return malformed("the pax record \"mtime\" is not a time");
        entry.mtime = *parsed;
      }
    }
    if (!owner || !group) return malformed("the owner of " + quote(entry.name) + " is not a user or group number");
    entry.uid = *owner;
    entry.gid = *group;
    entry.mode = static_cast<std::uint32_t>(*mode) & 07777U;
    if (entry.name.find('\0') != std::string::npos || entry.link_target.find('\0') != std::string::npos) {
      return malformed("a name contains a zero byte");
    }
    if (entry.name.size() > kMaxPathBytes || entry.link_target.size() > kMaxPathBytes) {
      return malformed("a name is longer than " + std::to_string(kMaxPathBytes) + " bytes");
    }

    bool has_content = false;
    switch (entry.type_flag) {
      case '0':
        entry.type = entry.name.ends_with('/') ? FileType::kDirectory : FileType::kRegular;
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
    entry.data_offset_bytes = position_;
    if (has_content) {
      if (archive_.size_bytes - position_ < content_size) {
        return malformed("the archive ends inside " + quote(entry.name));
      }
      // The padding behind the last member may be missing, as in Go's reader.
      const auto padding = (kBlock - content_size % kBlock) % kBlock;
      position_ += content_size;
      position_ = std::min(archive_.size_bytes, position_ + padding);
      if (entry.kind == TarEntry::Kind::kFile && entry.type == FileType::kRegular) entry.size_bytes = content_size;
    }
    return true;
  }
}

}  // namespace nitro::image
