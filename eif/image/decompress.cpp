// SPDX-License-Identifier: Apache-2.0
#include "eif/image/decompress.h"

#include <archive.h>
#include <archive_entry.h>
#include <lzma.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/base/bytes.h"
#include "src/base/text.h"

namespace nitro::image {

namespace {

struct FreeArchive {
  void operator()(archive* reader) const { archive_read_free(reader); }
};

constexpr std::size_t kPieceBytes = std::size_t{256} << 10;
// A skippable zstd frame (RFC 8878, section 3.1.2): one of sixteen magic numbers, then the length of the rest, all
// little-endian. pzstd begins with one.
constexpr std::uint32_t kSkippable = 0x184D2A50;
constexpr std::size_t kSkippableHeadBytes = 8;

std::uint32_t little_endian(std::span<const std::byte> bytes) {
  std::uint32_t value = 0;
  for (std::size_t i = 4; i-- > 0;) value = (value << 8U) | std::to_integer<std::uint32_t>(bytes[i]);
  return value;
}

bool is_skippable(std::span<const std::byte> start) {
  return start.size() >= 4 && (little_endian(start) & 0xfffffff0U) == kSkippable;
}

// Returns the memory that a decoder of the format may need, by its specification: the window and the output.
std::uint64_t window_bytes(Compression compression) {
  switch (compression) {
    case Compression::kNone:
    case Compression::kXz:  // charged as it is allocated
      return 0;
    case Compression::kGzip:
      return std::uint64_t{1} << 20;  // 32 KiB of window
    case Compression::kBzip2:
      return std::uint64_t{8} << 20;  // 900 kB at 4 bytes, and the block
    case Compression::kZstd:
      return std::uint64_t{130} << 20;  // libzstd accepts windows of up to 128 MiB
  }
  return 0;
}

Failure damaged(std::string_view reason) {
  return fail(ErrorCode::kEifBuilding, "the compressed data is damaged or incomplete (" + std::string(reason) + ")");
}

// The stored bytes of a blob; `sink` sees each of them once.
class StoredBytes {
 public:
  StoredBytes(Extent blob, ByteSink sink) : blob_(std::move(blob)), sink_(std::move(sink)) {}

  [[nodiscard]] const Extent& blob() const { return blob_; }
  [[nodiscard]] std::uint64_t left_bytes() const { return blob_.size_bytes - at_; }

  // Returns the next piece, valid until the next call; empty at the end.
  Result<std::span<const std::byte>> next(std::uint64_t limit_bytes = kPieceBytes) {
    const auto size = std::min({std::uint64_t{buffer_.size()}, limit_bytes, left_bytes()});
    const auto piece = std::span(buffer_).first(static_cast<std::size_t>(size));
    NITRO_CHECK(blob_.read(at_, piece));
    at_ += size;
    if (sink_ && !piece.empty()) NITRO_CHECK(sink_(piece));
    return std::span<const std::byte>(piece);
  }

  Result<void> pass(std::uint64_t size_bytes) {
    while (size_bytes > 0) {
      NITRO_TRY(const auto piece, next(size_bytes));
      size_bytes -= piece.size();
    }
    return {};
  }

  // Skips zstd frames without content at the current position. libarchive only accepts them after others.
  Result<void> pass_skippable_frames() {
    std::array<std::byte, kSkippableHeadBytes> head{};
    while (left_bytes() >= head.size()) {
      NITRO_CHECK(blob_.read(at_, head));
      if (!is_skippable(head)) return {};
      const auto size = head.size() + little_endian(std::span(head).subspan(4));
      if (size > left_bytes()) return damaged("a frame is cut off");
      NITRO_CHECK(pass(size));
    }
    return {};
  }

 private:
  Extent blob_;
  ByteSink sink_;
  std::vector<std::byte> buffer_ = std::vector<std::byte>(kPieceBytes);
  std::uint64_t at_ = 0;
};

}  // namespace

Compression detect_compression(std::span<const std::byte> start) {
  const auto starts_with = [start](std::string_view magic) { return as_text(start).starts_with(magic); };
  if (starts_with("\x1f\x8b")) return Compression::kGzip;
  if (starts_with("\x28\xb5\x2f\xfd") || is_skippable(start)) return Compression::kZstd;
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

// Unpacks one blob.
class UnpackedStream::Decoder {
 public:
  Decoder() = default;
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;
  virtual ~Decoder() = default;

  // Returns the next piece, valid until the next call; empty once everything was unpacked.
  virtual Result<std::span<const std::byte>> next(StoredBytes& stored) = 0;
};

namespace {

// gzip, zstd and bzip2, through libarchive, which requests the blob's bytes through a callback.
class ArchiveDecoder : public UnpackedStream::Decoder {
 public:
  ArchiveDecoder() {
    if (!reader_) throw std::bad_alloc();
    archive_read_support_filter_gzip(reader_.get());
    archive_read_support_filter_zstd(reader_.get());
    archive_read_support_filter_bzip2(reader_.get());
    archive_read_support_format_raw(reader_.get());
    archive_read_support_format_empty(reader_.get());
  }

  Result<std::span<const std::byte>> next(StoredBytes& stored) override {
    stored_ = &stored;
    if (!std::exchange(open_, true)) {
      NITRO_CHECK(stored.pass_skippable_frames());
      if (archive_read_open(reader_.get(), this, nullptr, on_read, nullptr) != ARCHIVE_OK) return why();
      archive_entry* entry = nullptr;
      const int first = archive_read_next_header(reader_.get(), &entry);
      if (first != ARCHIVE_OK && first != ARCHIVE_EOF) return why();
      at_end_ = first == ARCHIVE_EOF;
    }
    while (!at_end_) {
      const void* data = nullptr;
      std::size_t size = 0;
      la_int64_t offset = 0;
      const int status = archive_read_data_block(reader_.get(), &data, &size, &offset);
      if (status != ARCHIVE_OK && status != ARCHIVE_EOF) return why();
      at_end_ = status == ARCHIVE_EOF;
      if (!at_end_ && size > 0) return std::span(static_cast<const std::byte*>(data), size);
    }
    // The rest is not part of it: libarchive ignores such bytes, engines refuse them.
    const auto used = static_cast<std::uint64_t>(archive_filter_bytes(reader_.get(), -1));
    if (used < given_ || stored.left_bytes() > 0) return damaged("other bytes follow it");
    return std::span<const std::byte>();
  }

 private:
  static la_ssize_t on_read(archive* reader, void* context, const void** bytes) {
    auto& decoder = *static_cast<ArchiveDecoder*>(context);
    auto piece = decoder.stored_->next();
    if (!piece) {
      decoder.error_ = std::move(piece).error();
      archive_set_error(reader, EIO, "read error");
      return ARCHIVE_FATAL;
    }
    *bytes = piece->data();
    decoder.given_ += piece->size();
    return static_cast<la_ssize_t>(piece->size());
  }

  [[nodiscard]] Failure why() const {
    // Our own error says more than libarchive's.
    if (error_) return Failure(*error_);
    const char* reason = archive_error_string(reader_.get());
    return damaged(reason != nullptr ? reason : "no reason given");
  }

  StoredBytes* stored_ = nullptr;  // during calls of libarchive
  std::optional<Error> error_;
  std::uint64_t given_ = 0;  // bytes that libarchive has requested, used or not
  bool open_ = false;
  bool at_end_ = false;
  std::unique_ptr<archive, FreeArchive> reader_{archive_read_new()};
};

// xz, whose window may be as large as 4 GiB. Uses liblzma directly, as libarchive would allow all of that.
class XzDecoder : public UnpackedStream::Decoder {
 public:
  explicit XzDecoder(Budget& budget) : heap_(budget) {
    stream_.allocator = &allocator_;
    // The heap is the limit. Concatenated streams are decoded as one.
    status_ = lzma_stream_decoder(&stream_, UINT64_MAX, LZMA_CONCATENATED);
  }
  ~XzDecoder() override { lzma_end(&stream_); }

  Result<std::span<const std::byte>> next(StoredBytes& stored) override {
    // unsigned char may alias any object.
    stream_.next_out = reinterpret_cast<std::uint8_t*>(unpacked_.data());
    stream_.avail_out = unpacked_.size();
    while (status_ == LZMA_OK && stream_.avail_out > 0) {
      if (stream_.avail_in == 0) {
        NITRO_TRY(const auto piece, stored.next());
        stream_.next_in = reinterpret_cast<const std::uint8_t*>(piece.data());
        stream_.avail_in = piece.size();
      }
      status_ = lzma_code(&stream_, stream_.avail_in == 0 ? LZMA_FINISH : LZMA_RUN);
    }
    if (status_ != LZMA_OK && status_ != LZMA_STREAM_END) return why();
    return std::span<const std::byte>(unpacked_).first(unpacked_.size() - stream_.avail_out);
  }

 private:
  [[nodiscard]] Failure why() const {
    if (!heap_.exceeded().empty()) return fail(ErrorCode::kEifBuilding, heap_.exceeded());
    return damaged("status " + std::to_string(status_) + " of liblzma");
  }

  ChargedHeap heap_;
  lzma_allocator allocator_{[](void* heap, std::size_t count, std::size_t size) {
                              return static_cast<ChargedHeap*>(heap)->allocate(count, size);
                            },
                            [](void* heap, void* memory) { static_cast<ChargedHeap*>(heap)->free(memory); }, &heap_};
  lzma_stream stream_ = LZMA_STREAM_INIT;
  lzma_ret status_ = LZMA_OK;
  std::vector<std::byte> unpacked_ = std::vector<std::byte>(kPieceBytes);
};

}  // namespace

// A decoder, chosen by the first bytes of the blob when they are needed, and the counters around it.
struct UnpackedStream::State {
  State(Extent blob, Budget& budget, ByteSink stored_sink, ByteSink unpacked_sink, std::uint64_t most)
      : windows("the window of its compressed data", kMaxWindowBytes, budget),
        stored(std::move(blob), std::move(stored_sink)),
        unpacked(std::move(unpacked_sink)),
        max_bytes(most) {}

  Result<void> open() {
    NITRO_TRY(const auto compression, detect_compression(stored.blob()));
    NITRO_TRY(charge, Charge::of(windows, window_bytes(compression)));
    if (compression == Compression::kXz) {
      decoder = std::make_unique<XzDecoder>(windows);
    } else {
      decoder = std::make_unique<ArchiveDecoder>();
    }
    return {};
  }

  Result<std::span<const std::byte>> next() {
    if (!decoder) NITRO_CHECK(open());
    NITRO_TRY(const auto piece, decoder->next(stored));
    if (piece.size() > max_bytes - total) {
      return fail(ErrorCode::kEifBuilding,
                  "it unpacks to more than " + limit_text(max_bytes) + ", which no enclave can hold");
    }
    total += piece.size();
    if (unpacked && !piece.empty()) NITRO_CHECK(unpacked(piece));
    return piece;
  }

  Budget windows;
  Charge charge;
  StoredBytes stored;
  ByteSink unpacked;
  std::uint64_t max_bytes;
  std::uint64_t total = 0;
  std::unique_ptr<Decoder> decoder;
};

UnpackedStream::UnpackedStream(Extent blob, Budget& budget, ByteSink stored, ByteSink unpacked, std::uint64_t max_bytes)
    : state_(std::make_unique<State>(std::move(blob), budget, std::move(stored), std::move(unpacked), max_bytes)) {}
UnpackedStream::~UnpackedStream() = default;

Result<std::span<const std::byte>> UnpackedStream::next() {
  if (piece_.empty()) return state_->next();
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
