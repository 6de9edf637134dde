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
#include <vector>

#include "nitro/bytes.h"

namespace nitro::image {

namespace {

struct FreeArchive {
  void operator()(archive* reader) const { archive_read_free(reader); }
};

// What libarchive's callback needs to read the blob piece by piece; it also keeps our own error, which says more than
// libarchive's.
struct Feed {
  const Extent& blob;
  const ByteSink& stored;
  std::vector<std::byte> buffer = std::vector<std::byte>(std::size_t{256} << 10);
  std::uint64_t at = 0;
  std::optional<Error> error = std::nullopt;

  Result<std::span<const std::byte>> next() {
    const auto piece =
        std::span(buffer).first(static_cast<std::size_t>(std::min<std::uint64_t>(buffer.size(), blob.size_bytes - at)));
    NITRO_CHECK(blob.read(at, piece));
    at += piece.size();
    if (stored && !piece.empty()) NITRO_CHECK(stored(piece));
    return std::span<const std::byte>(piece);
  }
};

la_ssize_t read_callback(archive* reader, void* context, const void** bytes) {
  auto& feed = *static_cast<Feed*>(context);
  auto piece = feed.next();
  if (!piece) {
    feed.error = std::move(piece).error();
    archive_set_error(reader, EIO, "read error");
    return ARCHIVE_FATAL;
  }
  *bytes = piece->data();
  return static_cast<la_ssize_t>(piece->size());
}

Failure damaged(const Feed& feed, archive* reader) {
  if (feed.error) return Failure(*feed.error);
  const char* reason = archive_error_string(reader);
  return fail(ErrorCode::kEifBuilding, std::string("the compressed data is damaged or incomplete (") +
                                           (reason ? reason : "no reason given") + ")");
}

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

Result<void> decompress(const Extent& blob, const ByteSink& unpacked, const ByteSink& stored) {
  const std::unique_ptr<archive, FreeArchive> reader(archive_read_new());
  if (!reader) throw std::bad_alloc();
  archive_read_support_filter_gzip(reader.get());
  archive_read_support_filter_zstd(reader.get());
  archive_read_support_filter_xz(reader.get());
  archive_read_support_filter_bzip2(reader.get());
  archive_read_support_format_raw(reader.get());
  archive_read_support_format_empty(reader.get());

  Feed feed{blob, stored};
  if (archive_read_open(reader.get(), &feed, nullptr, read_callback, nullptr) != ARCHIVE_OK) {
    return damaged(feed, reader.get());
  }
  archive_entry* entry = nullptr;
  const int first = archive_read_next_header(reader.get(), &entry);
  if (first != ARCHIVE_OK && first != ARCHIVE_EOF) return damaged(feed, reader.get());
  std::uint64_t total = 0;
  while (first == ARCHIVE_OK) {
    const void* data = nullptr;
    std::size_t size = 0;
    la_int64_t offset = 0;
    const int status = archive_read_data_block(reader.get(), &data, &size, &offset);
    if (status == ARCHIVE_EOF) break;
    if (status != ARCHIVE_OK) return damaged(feed, reader.get());
    total += size;
    if (total > kMaxUnpackedBytes) {
      return fail(ErrorCode::kEifBuilding, "it unpacks to more than " + std::to_string(kMaxUnpackedBytes >> 30) +
                                               " GiB, which no enclave can hold");
    }
    NITRO_CHECK(unpacked(std::span(static_cast<const std::byte*>(data), size)));
  }
  // Bytes behind the compressed stream count for the digest of the blob although nobody unpacks them.
  while (feed.at < blob.size_bytes) {
    if (auto rest = feed.next(); !rest) return Failure(std::move(rest).error());
  }
  return {};
}

}  // namespace nitro::image
