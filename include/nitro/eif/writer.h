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

/// Calls its argument with the bytes of a stream, in order, and returns the first failure.
using Producer = std::function<Result<void>(const ByteSink& sink)>;

/// Writes the bytes of a section into `fd` (borrowed), from `offset_bytes` on and in any order, and returns the
/// section's size; gaps read as zeros.
using Placer = std::function<Result<std::uint64_t>(int fd, std::uint64_t offset_bytes)>;

struct WriterOptions {
  Architecture architecture = Architecture::kX86_64;
  HashAlgorithm algorithm = HashAlgorithm::kSha384;
  const Signer* signer = nullptr;  ///< borrowed until finish(); nullptr: the image is not signed
  std::uint64_t default_memory_bytes = std::uint64_t{1} << 30;
  std::uint64_t default_cpus = 2;
};

/// The maximum number of ramdisks in an image: 32 sections, less one each for the kernel, the command line, the
/// metadata and, if there is one, the signature.
[[nodiscard]] constexpr std::size_t max_ramdisks(bool with_signature) {
  return with_signature ? 28 : 29;
}

/// Writes an enclave image file, version 4. Call each once, in this order: add_kernel, add_cmdline, add_metadata, then
/// add_ramdisk for every ramdisk (the first is the one of PCR1), then finish. Any other order is a bug
/// (std::logic_error).
///
/// Every byte of a stream is processed once: checksum and digests are computed while it is written, on separate threads
/// if a ramdisk is large. Memory does not grow with the image. Sections may be streams of unknown size; their headers
/// are written afterwards, so the file must be seekable. After a failure the file's content is undefined; use
/// OutputFile.
///
/// Not thread-safe; destroying a Writer before finish() stops its threads.
class Writer {
 public:
  /// `fd` is borrowed, open for reading and writing; its content is replaced. Errors: kHasher.
  static Result<Writer> create(int fd, const WriterOptions& options = {});

  Writer(Writer&&) noexcept;
  Writer& operator=(Writer&&) noexcept;
  ~Writer();

  /// Errors of all of these: kFileOperation, and those of the producer.
  Result<void> add_kernel(const Producer& kernel);
  /// Errors also: kEifBuilding when `cmdline` contains a zero byte.
  Result<void> add_cmdline(std::string_view cmdline);
  Result<void> add_metadata(const Metadata& metadata);
  /// Errors also: kEifBuilding when there are already max_ramdisks().
  Result<void> add_ramdisk(const Producer& ramdisk);
  /// The same for a ramdisk that is not written in order: it is read again to be measured.
  Result<void> add_ramdisk_in_place(const Placer& ramdisk);
  /// Signs if requested, and writes the header. Errors: kFileOperation, kHasher, kSigning.
  Result<Measurements> finish();

 private:
  class Impl;
  explicit Writer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Returns a Producer of everything that can be read from `fd` (borrowed) from its position on. `name` stands for it in
/// messages; copied.
[[nodiscard]] Producer from_file(int fd, std::string_view name);
/// Returns a Producer of `bytes`, which must live until it is called.
[[nodiscard]] Producer from_bytes(std::span<const std::byte> bytes);

}  // namespace nitro::eif
