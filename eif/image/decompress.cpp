// SPDX-License-Identifier: Apache-2.0
#include "eif/image/decompress.h"

#include <archive.h>
#include <archive_entry.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "nitro/bytes.h"

namespace nitro::image {

namespace {

struct FreeArchive {
  void operator()(archive* reader) const { archive_read_free(reader); }
};

constexpr std::size_t kPieceBytes = std::size_t{256} << 10;

}  // namespace

Compression detect_compression(std::span<const std::byte> start) {
  const auto starts_with = [start](std::string_view magic) { return as_text(start).starts_with(magic); };
  if (starts_with("\x1f\x8b")) return Compression::kGzip;
  if (starts_with("\x28\xb5\x2f\xfd")) return Compression::kZstd;
  if (starts_with(std::string_view("\xfd"
                                   "7zXZ\0",
                                   6)))
    return Compression::kXz;
  if (starts_with("BZh")) return Compression::kBzip2;
  return Compression::kNone;
}

Result<Compression> detect_compression(const Extent& blob) {
  std::array<std::byte, 6> start{};
  const auto bytes =
      std::span(start).first(static_cast<std::size_t>(std::min<std::uint64_t>(start.size(), blob.size_bytes)));
  NITRO_CHECK(blob.read(0, bytes));
  return detect_compression(bytes);
}

// Drives libarchive, which asks for the blob's bytes through a callback.
class UnpackedStream::Decoder {
 public:
  Decoder(Extent blob, ByteSink stored, ByteSink unpacked)
      : blob_(std::move(blob)), stored_(std::move(stored)), unpacked_(std::move(unpacked)) {
    if (!reader_) throw std::bad_alloc();
    archive_read_support_filter_gzip(reader_.get());
    archive_read_support_filter_zstd(reader_.get());
    archive_read_support_filter_xz(reader_.get());
    archive_read_support_filter_bzip2(reader_.get());
    archive_read_support_format_raw(reader_.get());
    archive_read_support_format_empty(reader_.get());
  }

  Result<std::span<const std::byte>> next() {
    if (stage_ == Stage::kNew) NITRO_CHECK(open());
    while (stage_ == Stage::kOpen) {
      const void* data = nullptr;
      std::size_t size = 0;
      la_int64_t offset = 0;
      const int status = archive_read_data_block(reader_.get(), &data, &size, &offset);
      if (status == ARCHIVE_EOF) {
        NITRO_CHECK(read_rest());
        stage_ = Stage::kEnd;
        break;
      }
      if (status != ARCHIVE_OK) return damaged();
      total_ += size;
      if (total_ > kMaxUnpackedBytes) {
        return fail(ErrorCode::kEifBuilding, "it unpacks to more than " + std::to_string(kMaxUnpackedBytes >> 30) +
                                                 " GiB, which no enclave can hold");
      }
      if (size == 0) continue;
      const std::span piece(static_cast<const std::byte*>(data), size);
      if (unpacked_) NITRO_CHECK(unpacked_(piece));
      return piece;
    }
    return std::span<const std::byte>();
  }

 private:
  enum class Stage { kNew, kOpen, kEnd };

  Result<void> open() {
    if (archive_read_open(reader_.get(), this, nullptr, on_read, nullptr) != ARCHIVE_OK) return damaged();
    archive_entry* entry = nullptr;
    const int first = archive_read_next_header(reader_.get(), &entry);
    if (first != ARCHIVE_OK && first != ARCHIVE_EOF) return damaged();
    stage_ = first == ARCHIVE_OK ? Stage::kOpen : Stage::kEnd;
    return stage_ == Stage::kEnd ? read_rest() : Result<void>();
  }

  Result<std::span<const std::byte>> next_stored() {
    const auto piece = std::span(buffer_).first(
        static_cast<std::size_t>(std::min<std::uint64_t>(buffer_.size(), blob_.size_bytes - at_)));
    NITRO_CHECK(blob_.read(at_, piece));
    at_ += piece.size();
    if (stored_ && !piece.empty()) NITRO_CHECK(stored_(piece));
    return std::span<const std::byte>(piece);
  }

  // Bytes behind the compressed stream count for the digest of the blob although nobody unpacks them.
  Result<void> read_rest() {
    while (at_ < blob_.size_bytes) {
      if (auto rest = next_stored(); !rest) return Failure(std::move(rest).error());
    }
    return {};
  }

  static la_ssize_t on_read(archive* reader, void* context, const void** bytes) {
    auto& decoder = *static_cast<Decoder*>(context);
    auto piece = decoder.next_stored();
    if (!piece) {
      decoder.error_ = std::move(piece).error();
      archive_set_error(reader, EIO, "read error");
      return ARCHIVE_FATAL;
    }
    *bytes = piece->data();
    return static_cast<la_ssize_t>(piece->size());
  }

  Failure damaged() {
    // Our own error says more than libarchive's.
    if (error_) return Failure(*error_);
    const char* reason = archive_error_string(reader_.get());
    return fail(ErrorCode::kEifBuilding, std::string("the compressed data is damaged or incomplete (") +
                                             (reason ? reason : "no reason given") + ")");
  }

  Extent blob_;
  ByteSink stored_;
  ByteSink unpacked_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(kPieceBytes);
  std::uint64_t at_ = 0;  // bytes of the blob that were read
  std::uint64_t total_ = 0;
  std::optional<Error> error_;
  Stage stage_ = Stage::kNew;
  std::unique_ptr<archive, FreeArchive> reader_{archive_read_new()};
};

UnpackedStream::UnpackedStream(Extent blob, ByteSink stored, ByteSink unpacked)
    : decoder_(std::make_unique<Decoder>(std::move(blob), std::move(stored), std::move(unpacked))) {}
UnpackedStream::~UnpackedStream() = default;

Result<std::span<const std::byte>> UnpackedStream::next() {
  if (piece_.empty()) return decoder_->next();
  return std::exchange(piece_, {});
}

Result<std::size_t> UnpackedStream::read(std::span<std::byte> buffer) {
  std::size_t filled = 0;
  while (filled < buffer.size()) {
    NITRO_TRY(piece_, next());
    if (piece_.empty()) break;
    const auto size = std::min(piece_.size(), buffer.size() - filled);
    std::copy_n(piece_.begin(), size, buffer.begin() + static_cast<std::ptrdiff_t>(filled));
    piece_ = piece_.subspan(size);
    filled += size;
  }
  return filled;
}

Result<std::uint64_t> UnpackedStream::skip(std::uint64_t size_bytes) {
  std::uint64_t skipped = 0;
  while (skipped < size_bytes) {
    NITRO_TRY(piece_, next());
    if (piece_.empty()) break;
    const auto size = std::min<std::uint64_t>(piece_.size(), size_bytes - skipped);
    piece_ = piece_.subspan(static_cast<std::size_t>(size));
    skipped += size;
  }
  return skipped;
}

}  // namespace nitro::image
