// SPDX-License-Identifier: Apache-2.0
#include "nitro/eif/reader.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>

#include "eif/format/header.h"
#include "eif/format/image_digests.h"
#include "src/base/bytes.h"

namespace nitro::eif {
namespace {

constexpr std::size_t kMaxCmdlineBytes = std::size_t{64} << 10;

// Every message about a damaged image ends with advice.
constexpr const char* kCopyAgain = "copy or build the image again";

Failure malformed(const std::string& what, const char* remedy = kCopyAgain) {
  return fail(ErrorCode::kEifParsing, what + "; " + remedy);
}

std::string place(std::size_t index, std::uint64_t offset) {
  return fmt::format("section {} at byte {}", index, offset);
}
std::string place(std::size_t index, SectionType type, std::uint64_t offset) {
  return fmt::format("section {} ({}) at byte {}", index, to_string(type), offset);
}

// Checks which sections an image has; their positions have already been checked.
Result<void> check_kinds(std::span<const Section> sections) {
  std::array<std::size_t, 6> count{};
  for (std::size_t i = 0; i < sections.size(); ++i) {
    const SectionType type = sections[i].type;
    const std::uint64_t offset = sections[i].offset_bytes - format::kSectionHeaderBytes;
    std::size_t& seen = count[static_cast<std::size_t>(type)];
    if (type == SectionType::kRamdisk) {
      if (count[static_cast<std::size_t>(SectionType::kKernel)] == 0) {
        return malformed(place(i, type, offset) + ": a ramdisk may not come before the kernel",
                         "build the image again");
      }
    } else if (seen == 1) {
      return malformed(place(i, type, offset) + ": an image has one section of this kind only",
                       "build the image again");
    }
    ++seen;
    if (type == SectionType::kKernel && sections[i].size_bytes == 0) {
      return malformed(place(i, type, offset) + ": it is empty", "build the image again");
    }
  }
  for (const SectionType type : {SectionType::kKernel, SectionType::kCmdline}) {
    if (count[static_cast<std::size_t>(type)] == 0) {
      return malformed(fmt::format("the image has no {} section", to_string(type)), "build the image again");
    }
  }
  return {};
}

}  // namespace

std::string_view to_string(SectionType type) {
  switch (type) {
    case SectionType::kInvalid:
      return "invalid";
    case SectionType::kKernel:
      return "kernel";
    case SectionType::kCmdline:
      return "command line";
    case SectionType::kRamdisk:
      return "ramdisk";
    case SectionType::kSignature:
      return "signature";
    case SectionType::kMetadata:
      return "metadata";
  }
  return "unknown";
}

Result<Reader> Reader::open(const std::string& path) {
  NITRO_TRY(Fd fd, open_regular_file(path));
  return open(std::move(fd), path);
}

Result<Reader> Reader::open(Fd fd, std::string name) {
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return fail_errno(ErrorCode::kFileOperation, quote(name));
  if (!S_ISREG(status.st_mode)) {
    return fail(ErrorCode::kFileOperation, quote(name) + ": an image must be a regular file");
  }
  Reader reader(std::move(fd), std::move(name));
  reader.file_size_ = static_cast<std::uint64_t>(status.st_size);
  if (auto table = reader.read_table(); !table) return fail_within(quote(reader.name_), std::move(table).error());
  return reader;
}

Result<void> Reader::read_table() {
  HeaderBytes bytes{};
  const std::size_t available = static_cast<std::size_t>(std::min<std::uint64_t>(file_size_, bytes.size()));
  NITRO_CHECK(pread_exact(fd_.get(), std::span(bytes).first(available), 0));
  const RawHeader raw = decode_header(bytes);
  if (raw.magic != format::kMagic) {
    return malformed("the file does not begin with \".eif\", so it is no enclave image",
                     "give the path of an image file");
  }
  if (available < bytes.size()) {
    return malformed(
        fmt::format("the file has {} bytes, less than the {} of an image's header", file_size_, bytes.size()));
  }
  if (raw.version < format::kOldestVersion || raw.version > format::kNewestVersion) {
    return malformed(fmt::format("the header says format version {}, known are {} to {}", raw.version,
                                 format::kOldestVersion, format::kNewestVersion),
                     "build the image again with this version of the tools");
  }
  if (raw.section_count < format::kMinSections || raw.section_count > format::kMaxSections) {
    return malformed(fmt::format("the header says {} sections, an image has {} to {}", raw.section_count,
                                 format::kMinSections, format::kMaxSections));
  }

  // Sections are contiguous from the end of the header to the end of the file. Comparisons subtract from the file's
  // size, so that no number in the file, however large, can overflow.
  std::uint64_t position = format::kHeaderBytes;
  for (std::size_t i = 0; i < raw.section_count; ++i) {
    const std::uint64_t offset = raw.section_offsets[i];
    if (offset != position) {
      return malformed(fmt::format("{}: {} the end of the {} before it, byte {}", place(i, offset),
                                   offset < position ? "it begins before" : "there is a gap after",
                                   i == 0 ? "header" : "section", position));
    }
    if (file_size_ - offset < format::kSectionHeaderBytes) {
      return malformed(
          fmt::format("{}: the file ends at byte {}, inside the section's header", place(i, offset), file_size_));
    }
    SectionHeaderBytes section_bytes{};
    NITRO_CHECK(pread_exact(fd_.get(), section_bytes, offset));
    const RawSectionHeader section = decode_section_header(section_bytes);
    if (section.type == 0 || section.type > static_cast<std::uint16_t>(SectionType::kMetadata)) {
      return malformed(fmt::format("{}: there is no section type {}", place(i, offset), section.type));
    }
    const auto type = static_cast<SectionType>(section.type);
    // When signing again, nitro-cli 1.5.0 leaves the old size of the signature in the image's header; all readers use
    // the size in the section itself.
    if (section.size_bytes != raw.section_sizes[i] && type != SectionType::kSignature) {
      return malformed(fmt::format("{}: its own header says {} bytes, the image's header says {}",
                                   place(i, type, offset), section.size_bytes, raw.section_sizes[i]));
    }
    const std::uint64_t data = offset + format::kSectionHeaderBytes;
    if (section.size_bytes > file_size_ - data) {
      return malformed(fmt::format("{}: it has {} bytes, but the file ends {} bytes after its header",
                                   place(i, type, offset), section.size_bytes, file_size_ - data));
    }
    sections_.push_back({.type = type, .flags = section.flags, .offset_bytes = data, .size_bytes = section.size_bytes});
    position = data + section.size_bytes;
  }
  if (position != file_size_) {
    return malformed(fmt::format("{} bytes follow the last section, from byte {} on", file_size_ - position, position));
  }
  NITRO_CHECK(check_kinds(sections_));

  header_ = {.version = raw.version,
             .flags = raw.flags,
             .architecture = (raw.flags & format::kFlagAarch64) != 0 ? Architecture::kAarch64 : Architecture::kX86_64,
             .default_memory_bytes = raw.default_memory_bytes,
             .default_cpus = raw.default_cpus,
             .crc32 = raw.crc32};
  // The CRC includes the reserved fields.
  header_crc32_ = header_crc32(bytes);
  return {};
}

const Section* Reader::find(SectionType type) const {
  const auto found =
      std::find_if(sections_.begin(), sections_.end(), [type](const Section& s) { return s.type == type; });
  return found == sections_.end() ? nullptr : &*found;
}

Result<void> Reader::read(const Section& section, const ByteSink& sink) const {
  std::vector<std::byte> buffer(
      static_cast<std::size_t>(std::min<std::uint64_t>(ImageDigests::kBufferBytes, section.size_bytes)));
  for (std::uint64_t done = 0; done < section.size_bytes;) {
    const auto piece = std::span(buffer).first(
        static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), section.size_bytes - done)));
    if (auto got = pread_exact(fd_.get(), piece, section.offset_bytes + done); !got) {
      return fail_within(quote(name_), std::move(got).error());
    }
    NITRO_CHECK(sink(piece));
    done += piece.size();
  }
  return {};
}

Result<std::vector<std::byte>> Reader::read_small(const Section& section, std::size_t limit_bytes) const {
  NITRO_CHECK(check_small(section, limit_bytes));
  std::vector<std::byte> bytes(static_cast<std::size_t>(section.size_bytes));
  if (auto got = pread_exact(fd_.get(), bytes, section.offset_bytes); !got) {
    return fail_within(quote(name_), std::move(got).error());
  }
  return bytes;
}

Result<void> Reader::check_small(const Section& section, std::size_t limit_bytes) const {
  if (section.size_bytes <= limit_bytes) return {};
  return malformed(fmt::format("{}: the {} section at byte {} has {} bytes, more than the {} that are sensible",
                               quote(name_), to_string(section.type),
                               section.offset_bytes - format::kSectionHeaderBytes, section.size_bytes, limit_bytes),
                   "build the image again");
}

Result<std::string> Reader::command_line() const {
  NITRO_TRY(const auto bytes, read_small(*find(SectionType::kCmdline), kMaxCmdlineBytes));
  return std::string(as_text(bytes));
}

Result<std::optional<Metadata>> Reader::metadata() const {
  const Section* section = find(SectionType::kMetadata);
  if (section == nullptr) return std::optional<Metadata>();
  NITRO_TRY(const auto bytes, read_small(*section, kMaxMetadataBytes));
  auto metadata = parse_metadata(as_text(bytes));
  if (!metadata) return fail_within(quote(name_), std::move(metadata).error());
  return std::optional<Metadata>(std::move(*metadata));
}

Result<std::vector<Signature>> Reader::signatures() const {
  const Section* section = find(SectionType::kSignature);
  if (section == nullptr) return std::vector<Signature>();
  NITRO_TRY(const auto bytes, read_small(*section, kMaxSignatureBytes));
  auto signatures = parse_signature_section(bytes);
  if (!signatures) return fail_within(quote(name_), std::move(signatures).error());
  return signatures;
}

Result<Description> Reader::describe(HashAlgorithm algorithm, std::time_t now) const {
  // Reject what can be rejected before reading hundreds of megabytes.
  if (const Section* section = find(SectionType::kMetadata)) NITRO_CHECK(check_small(*section, kMaxMetadataBytes));
  if (const Section* section = find(SectionType::kSignature)) NITRO_CHECK(check_small(*section, kMaxSignatureBytes));

  const auto within = [this](Error error) { return fail_within(quote(name_), std::move(error)); };
  // Only a hint; the result does not matter.
  ::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  NITRO_TRY(ImageDigests digests, ImageDigests::create(algorithm));
  std::uint32_t crc = header_crc32_;
  std::vector<std::byte> metadata_bytes;
  std::vector<std::byte> signature_bytes;
  for (const Section& section : sections_) {
    crc = crc32_of(encode_section_header({.type = static_cast<std::uint16_t>(section.type),
                                          .flags = section.flags,
                                          .size_bytes = section.size_bytes}),
                   crc);
    NITRO_CHECK(digests.start_section(section.type));
    for (std::uint64_t done = 0; done < section.size_bytes;) {
      const auto size =
          static_cast<std::size_t>(std::min<std::uint64_t>(ImageDigests::kBufferBytes, section.size_bytes - done));
      ImageDigests::Buffer& buffer = digests.acquire();
      const auto piece = buffer.bytes().first(size);
      if (auto got = pread_exact(fd_.get(), piece, section.offset_bytes + done); !got) {
        return within(std::move(got).error());
      }
      digests.hash(buffer, size);
      crc = crc32_of(piece, crc);
      if (section.type == SectionType::kMetadata)
        metadata_bytes.insert(metadata_bytes.end(), piece.begin(), piece.end());
      if (section.type == SectionType::kSignature)
        signature_bytes.insert(signature_bytes.end(), piece.begin(), piece.end());
      digests.release(buffer);
      done += size;
    }
  }

  Description description{.header = header_, .crc_ok = crc == header_.crc32};
  NITRO_TRY(description.measurements, digests.finish());
  if (find(SectionType::kMetadata) != nullptr) {
    auto metadata = parse_metadata(as_text(metadata_bytes));
    if (!metadata) return within(std::move(metadata).error());
    description.metadata = std::move(*metadata);
  }
  if (find(SectionType::kSignature) != nullptr) {
    auto signature = describe_signature(signature_bytes, description.measurements, now);
    if (!signature) return within(std::move(signature).error());
    description.signature = std::move(*signature);
  }
  return description;
}

Result<SignatureDescription> Reader::describe_signature(std::span<const std::byte> section, Measurements& measurements,
                                                        std::time_t now) {
  NITRO_TRY(const auto signatures, parse_signature_section(section));
  const Signature& first = signatures.front();
  SignatureDescription description;
  NITRO_TRY(description.certificate, read_certificate_info(first.certificate_pem));
  NITRO_TRY(description.check, check_signature(first, now));
  description.covers_image = description.check.covers(measurements.pcr0);
  NITRO_TRY(measurements.pcr8, measure_certificate(first.certificate_pem, measurements.algorithm));
  return description;
}

Result<Description> describe(const std::string& path) {
  NITRO_TRY(const Reader reader, Reader::open(path));
  return reader.describe();
}

}  // namespace nitro::eif
