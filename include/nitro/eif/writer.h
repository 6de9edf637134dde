// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "nitro/byte_sink.h"
#include "nitro/eif/measure.h"
#include "nitro/eif/metadata.h"
#include "nitro/eif/reader.h"
#include "nitro/eif/sign.h"

namespace nitro::eif {

/// Calls its argument with the bytes of a stream, in order, and hands on the first failure.
using Producer = std::function<Result<void>(const ByteSink& sink)>;

/// Writes the bytes of a section into `fd` (borrowed), from `offset_bytes` on and in any order, and returns how many
/// there are; what is between them reads as zeros.
using Placer = std::function<Result<std::uint64_t>(int fd, std::uint64_t offset_bytes)>;

struct WriterOptions {
  Architecture architecture = Architecture::kX86_64;
  HashAlgorithm algorithm = HashAlgorithm::kSha384;
  const Signer* signer = nullptr;  ///< borrowed until finish(); nullptr: the image is not signed
  std::uint64_t default_memory_bytes = std::uint64_t{1} << 30;
  std::uint64_t default_cpus = 2;
};

/// Most ramdisks an image can have: 32 sections, of which the kernel, the command line, the metadata and perhaps a
/// signature take one each.
[[nodiscard]] constexpr std::size_t max_ramdisks(bool with_signature) {
  return with_signature ? 28 : 29;
}

/// Writes an enclave image file, version 4. Call once each, in this order: add_kernel, add_cmdline, add_metadata, then
/// add_ramdisk for every ramdisk (the first is the one of PCR1), then finish. Another order is a bug
/// (std::logic_error).
///
/// Every byte of a stream is touched once: checksum and digests are computed while it is written, the digests on
/// threads of their own when a ramdisk is large. Memory does not grow with the image. Sections may be streams whose
/// size nobody knows beforehand; their headers are written afterwards, so the file must be seekable. What is in the
/// file after a failure has no meaning; use OutputFile.
///
/// One thread at a time; destroying a Writer before finish() stops its threads.
class Writer {
 public:
  /// `fd` is borrowed, open for reading and writing, and its content is replaced. Errors: kHasher.
  static Result<Writer> create(int fd, const WriterOptions& options = {});

  Writer(Writer&&) noexcept;
  Writer& operator=(Writer&&) noexcept;
  ~Writer();

  /// Errors of all: kFileOperation, and those of the producer.
  Result<void> add_kernel(const Producer& kernel);
  /// Errors also: kEifBuilding when `cmdline` contains a zero byte.
  Result<void> add_cmdline(std::string_view cmdline);
  Result<void> add_metadata(const Metadata& metadata);
  /// Errors also: kEifBuilding when there are max_ramdisks() already.
  Result<void> add_ramdisk(const Producer& ramdisk);
  /// The same for a ramdisk whose bytes are not known in their order: it is read again to be measured.
  Result<void> add_ramdisk_in_place(const Placer& ramdisk);
  /// Signs if asked to, writes the header. Errors: kFileOperation, kHasher, kSigning.
  Result<Measurements> finish();

 private:
  class Impl;
  explicit Writer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// A Producer of all that can be read from `fd` (borrowed) from its position on. `name` stands for it in messages;
/// copied.
[[nodiscard]] Producer from_file(int fd, std::string_view name);
/// A Producer of `bytes`, which must live until it is called.
[[nodiscard]] Producer from_bytes(std::span<const std::byte> bytes);

}  // namespace nitro::eif
