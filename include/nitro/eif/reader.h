// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nitro/byte_sink.h"
#include "nitro/eif/measure.h"
#include "nitro/eif/metadata.h"
#include "nitro/eif/sign.h"
#include "nitro/fd.h"

namespace nitro::eif {

/// The section types by their number in the file.
enum class SectionType : std::uint16_t {
  kInvalid = 0,
  kKernel = 1,
  kCmdline = 2,
  kRamdisk = 3,
  kSignature = 4,
  kMetadata = 5
};
/// "kernel", "command line", "ramdisk", "signature", "metadata", "invalid".
[[nodiscard]] std::string_view to_string(SectionType type);

enum class Architecture { kX86_64, kAarch64 };

/// The header fields that still matter once the sections are known.
struct Header {
  std::uint16_t version = 0;  ///< 2, 3 or 4
  std::uint16_t flags = 0;
  Architecture architecture = Architecture::kX86_64;  ///< bit 0 of flags
  std::uint64_t default_memory_bytes = 0;             ///< unused
  std::uint64_t default_cpus = 0;                     ///< unused
  std::uint32_t crc32 = 0;                            ///< as written in the file, whether correct or not
};

/// The location of a section's data, which follows the section's own 12-byte header.
struct Section {
  SectionType type = SectionType::kInvalid;
  std::uint16_t flags = 0;
  std::uint64_t offset_bytes = 0;  ///< of the data, from the start of the file
  std::uint64_t size_bytes = 0;
};

/// The first signature of an image, parsed and checked.
struct SignatureDescription {
  CertificateInfo certificate;
  SignatureCheck check;
  bool covers_image = false;  ///< check.covers(measured PCR0); describe-eif's SignatureCheck
};

/// All the facts about an image that one pass over it yields.
struct Description {
  Header header{};
  bool crc_ok = false;
  Measurements measurements{};
  std::optional<Metadata> metadata{};
  std::optional<SignatureDescription> signature{};
};

/// Reads an enclave image file. Opening reads only the header and the section headers, and refuses inconsistent ones,
/// so users of a Reader may rely on this: versions 2 to 4; 2 to 32 sections, contiguous from byte 548 to the end of the
/// file; the header's table agrees with the section headers; one kernel, one command line, at most one signature and
/// one metadata section; no ramdisk before the kernel. Data is read on request, in pieces: memory does not grow with
/// the image.
///
/// Movable; not thread-safe. The file must not change meanwhile; if it shrinks, reading fails.
class Reader {
 public:
  /// Errors: kFileOperation when the file cannot be read; kEifParsing when it is not an image; the message names the
  /// section and its offset.
  static Result<Reader> open(const std::string& path);
  /// The same for an open file, whatever its position. `name` stands for the file in messages.
  static Result<Reader> open(Fd fd, std::string name);

  [[nodiscard]] const Header& header() const { return header_; }
  /// In file order.
  [[nodiscard]] std::span<const Section> sections() const { return sections_; }
  /// Returns the first section of this type, or nullptr.
  [[nodiscard]] const Section* find(SectionType type) const;
  [[nodiscard]] std::uint64_t file_size_bytes() const { return file_size_; }
  /// Borrowed; its position is not used.
  [[nodiscard]] int fd() const { return fd_.get(); }

  /// Passes the data of `section` to `sink`, piece by piece. Errors: kFileOperation, and those of the sink.
  Result<void> read(const Section& section, const ByteSink& sink) const;
  /// Returns the text of the command line section; at most 64 KiB. Errors: kFileOperation, kEifParsing.
  Result<std::string> command_line() const;
  /// Returns the metadata, or nullopt if the image has none (before version 4). Errors: kFileOperation, kEifParsing.
  Result<std::optional<Metadata>> metadata() const;
  /// Returns the entries of the signature section; empty if the image is not signed. Errors: kFileOperation,
  /// kEifParsing.
  Result<std::vector<Signature>> signatures() const;

  /// Measures, checks the CRC and the signature, and parses the metadata, reading the file once. `now`: the time
  /// against which the certificate's dates are checked. A wrong CRC or signature is not an error. Errors:
  /// kFileOperation, kEifParsing, kHasher.
  Result<Description> describe(HashAlgorithm algorithm = HashAlgorithm::kSha384,
                               std::time_t now = std::time(nullptr)) const;

 private:
  friend Result<Measurements> sign_image(const std::string& path, const Signer& signer);

  Reader(Fd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {}
  Result<void> read_table();
  Result<void> check_small(const Section& section, std::size_t limit_bytes) const;
  Result<std::vector<std::byte>> read_small(const Section& section, std::size_t limit_bytes) const;
  static Result<SignatureDescription> describe_signature(std::span<const std::byte> section, Measurements& measurements,
                                                         std::time_t now);

  Fd fd_;
  std::string name_;
  std::uint64_t file_size_ = 0;
  Header header_;
  std::uint32_t header_crc32_ = 0;  // of the header except its last field
  std::vector<Section> sections_;
};

/// Calls Reader::open and describe, and prefixes every message with the path.
Result<Description> describe(const std::string& path);

}  // namespace nitro::eif
