// SPDX-License-Identifier: Apache-2.0
#include "nitro/eif/writer.h"

#include <fmt/format.h>

#include <memory>
#include <stdexcept>

#include "eif/format/section_writer.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "src/base/json.h"

namespace nitro::eif {

class Writer::Impl {
 public:
  enum class Stage { kKernel, kCmdline, kMetadata, kRamdisks, kFinished };

  Impl(SectionWriter sections, const WriterOptions& options) : options_(options), sections_(std::move(sections)) {}

  void expect(Stage stage, const char* call) const {
    if (stage_ != stage) throw std::logic_error(std::string("nitro::eif::Writer: ") + call + " is called out of order");
  }

  Result<void> add_ramdisk(const std::function<Result<void>(SectionWriter&)>& add);

  const WriterOptions options_;
  SectionWriter sections_;
  Stage stage_ = Stage::kKernel;
};

Writer::Writer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Writer::Writer(Writer&&) noexcept = default;
Writer& Writer::operator=(Writer&&) noexcept = default;
Writer::~Writer() = default;

Result<Writer> Writer::create(int fd, const WriterOptions& options) {
  NITRO_TRY(SectionWriter sections, SectionWriter::create(fd, options.algorithm));
  return Writer(std::make_unique<Impl>(std::move(sections), options));
}

Result<void> Writer::add_kernel(const Producer& kernel) {
  impl_->expect(Impl::Stage::kKernel, "add_kernel");
  auto added = impl_->sections_.add(SectionType::kKernel, kernel);
  if (!added) return fail_within("writing the kernel section", std::move(added).error());
  if (impl_->sections_.section_size(0) == 0) return fail(ErrorCode::kEifBuilding, "the kernel is empty; give one");
  impl_->stage_ = Impl::Stage::kCmdline;
  return {};
}

Result<void> Writer::add_cmdline(std::string_view cmdline) {
  impl_->expect(Impl::Stage::kCmdline, "add_cmdline");
  if (cmdline.find('\0') != std::string_view::npos) {
    return fail(ErrorCode::kEifBuilding, "the kernel command line contains a zero byte; remove it");
  }
  auto added = impl_->sections_.add(SectionType::kCmdline, from_bytes(as_bytes(cmdline)));
  if (!added) return fail_within("writing the command line section", std::move(added).error());
  impl_->stage_ = Impl::Stage::kMetadata;
  return {};
}

Result<void> Writer::add_metadata(const Metadata& metadata) {
  impl_->expect(Impl::Stage::kMetadata, "add_metadata");
  const std::string text = serialize_metadata(metadata);
  // Texts come from users and from the image; anything that our own reader would reject must not get into a file.
  if (text.size() > kMaxMetadataBytes) {
    return fail(ErrorCode::kEifBuilding,
                fmt::format("the metadata takes {} bytes, more than the {} that an image can have; "
                            "use a container image with fewer layers, labels or variables",
                            text.size(), kMaxMetadataBytes));
  }
  if (auto readable = parse_json(text, ErrorCode::kEifBuilding); !readable) {
    return fail_within("writing the metadata", std::move(readable).error());
  }
  auto added = impl_->sections_.add(SectionType::kMetadata, from_bytes(as_bytes(text)));
  if (!added) return fail_within("writing the metadata section", std::move(added).error());
  impl_->stage_ = Impl::Stage::kRamdisks;
  return {};
}

Result<void> Writer::Impl::add_ramdisk(const std::function<Result<void>(SectionWriter&)>& add) {
  expect(Stage::kRamdisks, "add_ramdisk");
  constexpr std::size_t kOtherSections = 3;
  const std::size_t index = sections_.count() - kOtherSections;
  const std::size_t limit = max_ramdisks(options_.signer != nullptr);
  if (index >= limit) {
    return fail(ErrorCode::kEifBuilding,
                fmt::format("{} ramdisks are too many, this image can have {}; join some into one", index + 1, limit));
  }
  auto added = add(sections_);
  if (!added) return fail_within(fmt::format("writing ramdisk {}", index), std::move(added).error());
  return {};
}

Result<void> Writer::add_ramdisk(const Producer& ramdisk) {
  return impl_->add_ramdisk([&](SectionWriter& sections) { return sections.add(SectionType::kRamdisk, ramdisk); });
}

Result<void> Writer::add_ramdisk_in_place(const Placer& ramdisk) {
  return impl_->add_ramdisk(
      [&](SectionWriter& sections) { return sections.add_in_place(SectionType::kRamdisk, ramdisk); });
}

Result<Measurements> Writer::finish() {
  impl_->expect(Impl::Stage::kRamdisks, "finish");
  impl_->stage_ = Impl::Stage::kFinished;
  const WriterOptions& options = impl_->options_;
  NITRO_TRY(Measurements measurements, impl_->sections_.measure());
  if (options.signer != nullptr) {
    NITRO_TRY(measurements.pcr8, measure_certificate(options.signer->certificate_pem(), options.algorithm));
    NITRO_TRY(const auto section, make_signature_section(*options.signer, measurements.pcr0));
    NITRO_CHECK(impl_->sections_.add_unmeasured(SectionType::kSignature, section));
  }
  RawHeader header;
  header.version = format::kNewestVersion;
  header.flags = options.architecture == Architecture::kAarch64 ? format::kFlagAarch64 : std::uint16_t{0};
  header.default_memory_bytes = options.default_memory_bytes;
  header.default_cpus = options.default_cpus;
  auto written = impl_->sections_.write_header(header);
  if (!written) return fail_within("writing the image's header", std::move(written).error());
  return measurements;
}

Producer from_file(int fd, std::string_view name) {
  return [fd, name = std::string(name)](const ByteSink& sink) -> Result<void> {
    std::vector<std::byte> buffer(ImageDigests::kBufferBytes);
    for (;;) {
      auto size = read_full(fd, buffer);
      if (!size) return fail_within(quote(name), std::move(size).error());
      NITRO_CHECK(sink(std::span(buffer).first(*size)));
      if (*size < buffer.size()) return {};
    }
  };
}

Producer from_bytes(std::span<const std::byte> bytes) {
  return [bytes](const ByteSink& sink) { return sink(bytes); };
}

}  // namespace nitro::eif
