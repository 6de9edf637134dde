// SPDX-License-Identifier: Apache-2.0
#include "nitro/eif/reader.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <limits>
#include <sstream>

#include "eif/format/header.h"
#include "nitro/eif/describe_json.h"
#include "src/base/bytes.h"
#include "tests/unit/eif/format/golden.h"

namespace nitro::eif {
namespace {

using testing::golden;
using testing::read_file;

// The bytes as a file, without a name in the file system.
Fd file_of(std::string_view bytes) {
  Fd fd(::memfd_create("image", MFD_CLOEXEC));
  EXPECT_TRUE(pwrite_all(fd.get(), as_bytes(bytes), 0));
  return fd;
}

Result<Reader> open_bytes(std::string_view bytes) {
  return Reader::open(file_of(bytes), "x.eif");
}

Result<Description> describe_bytes(std::string_view bytes) {
  NITRO_TRY(const Reader reader, open_bytes(bytes));
  return reader.describe(HashAlgorithm::kSha384, testing::kGoldenNow);
}

struct Piece {
  std::uint16_t type;
  std::string data;
};

constexpr const char* kMetadataText =
    R"({"ImageName":"n","ImageVersion":"v","BuildMetadata":{"BuildTime":"t","BuildTool":"b","BuildToolVersion":"1",)"
    R"("OperatingSystem":"o","KernelVersion":"k"},"DockerInfo":null,"CustomMetadata":null})";
const Piece kKernel{1, "kernel"};
const Piece kCmdline{2, "quiet"};
const Piece kRamdisk{3, "ramdisk"};
const Piece kMetadata{5, kMetadataText};

// An image of any sections, whose header can be spoilt before it is encoded.
std::string image_of(const std::vector<Piece>& pieces, const std::function<void(RawHeader&)>& spoil = {}) {
  RawHeader header;
  header.magic = format::kMagic;
  header.version = format::kNewestVersion;
  header.section_count = static_cast<std::uint16_t>(pieces.size());
  std::string body;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    if (i < format::kMaxSections) {
      header.section_offsets[i] = format::kHeaderBytes + body.size();
      header.section_sizes[i] = pieces[i].data.size();
    }
    body += as_text(encode_section_header({.type = pieces[i].type, .flags = 0, .size_bytes = pieces[i].data.size()}));
    body += pieces[i].data;
  }
  if (spoil) spoil(header);
  header.crc32 = crc32_of(as_bytes(body), header_crc32(encode_header(header)));
  return std::string(as_text(encode_header(header))) + body;
}

// The signature is a real one, of another image.
std::string small_signed_image() {
  const auto reader = Reader::open(golden("eif/signed-ec384/image.eif"));
  EXPECT_OK(reader);
  std::string signature;
  EXPECT_OK(reader->read(*reader->find(SectionType::kSignature), [&](std::span<const std::byte> bytes) -> Result<void> {
    signature += as_text(bytes);
    return {};
  }));
  return image_of({kKernel, kCmdline, kMetadata, kRamdisk, kRamdisk, {4, signature}});
}

void expect_refused(std::string_view bytes, const std::string& part_of_message) {
  const auto reader = open_bytes(bytes);
  ASSERT_FALSE(reader) << part_of_message;
  EXPECT_EQ(reader.error().code(), ErrorCode::kEifParsing);
  EXPECT_NE(reader.error().message().find(part_of_message), std::string::npos) << reader.error().message();
  EXPECT_NE(reader.error().message().find("\"x.eif\""), std::string::npos) << reader.error().message();
}

TEST(EifReader, ReadsWhatTheHeaderSays) {
  const auto reader = Reader::open(golden("eif/built-arm64/image.eif"));
  ASSERT_OK(reader);
  EXPECT_EQ(reader->header().version, 4);
  EXPECT_EQ(reader->header().architecture, Architecture::kAarch64);
  EXPECT_EQ(reader->header().default_memory_bytes, std::uint64_t{1} << 30);
  EXPECT_EQ(reader->header().default_cpus, 2U);
  ASSERT_EQ(reader->sections().size(), 5U);
  EXPECT_EQ(reader->sections()[0].type, SectionType::kKernel);
  EXPECT_EQ(reader->sections()[0].offset_bytes, 560U);
  EXPECT_EQ(reader->sections()[0].size_bytes, 70007U);
  EXPECT_EQ(reader->find(SectionType::kSignature), nullptr);
  EXPECT_EQ(reader->command_line().value(), "reboot=k");
}

TEST(EifReader, HandsOutSectionsInPieces) {
  const auto reader = Reader::open(golden("eif/built-three/image.eif"));
  ASSERT_OK(reader);
  std::string data;
  ASSERT_OK(reader->read(reader->sections()[5], [&](std::span<const std::byte> bytes) -> Result<void> {
    data += as_text(bytes);
    return {};
  }));
  EXPECT_TRUE(data == read_file(golden("eif/kinds/customer.cpio")));
}

TEST(EifReader, StopsWhenTheSinkFails) {
  const auto reader = Reader::open(golden("eif/tiny/image.eif"));
  ASSERT_OK(reader);
  const auto read = reader->read(reader->sections()[0], [](auto) { return fail(ErrorCode::kIoctl, "no more"); });
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), ErrorCode::kIoctl);
}

TEST(EifReader, RefusesTheImageCutAtEveryLength) {
  const std::string image = small_signed_image();
  ASSERT_OK(open_bytes(image));
  for (std::size_t size = 0; size < image.size(); ++size) {
    const auto cut = open_bytes(std::string_view(image).substr(0, size));
    ASSERT_FALSE(cut) << size;
    ASSERT_EQ(cut.error().code(), ErrorCode::kEifParsing) << size;
  }
}

TEST(EifReader, RefusesWhatIsNoRegularFile) {
  auto [reading, writing] = make_pipe().value();
  ASSERT_OK(write_all(writing.get(), as_bytes(small_signed_image())));
  Fd folder(::open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  Fd device(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  for (Fd* fd : {&reading, &folder, &device}) {
    const auto reader = Reader::open(std::move(*fd), "x.eif");
    ASSERT_FALSE(reader);
    EXPECT_EQ(reader.error().code(), ErrorCode::kFileOperation);
    EXPECT_EQ(reader.error().message(), "\"x.eif\": an image must be a regular file");
  }
}

TEST(EifReader, RefusesBytesAfterTheLastSection) {
  const std::string image = read_file(golden("eif/tiny/image.eif"));
  for (const std::size_t more : {1U, 11U, 12U, 13U, 5000U}) {
    expect_refused(image + std::string(more, '\0'), std::to_string(more) + " bytes follow the last section");
  }
}

// The header's table, the count, the magic, the version and the section headers decide what the file is: a change there
// must be noticed. The other fields of the header say nothing about the structure, but the CRC covers them.
TEST(EifReader, NoticesEverySingleByteChangeOfHeaders) {
  const std::string image = image_of({kKernel, kCmdline, kMetadata, kRamdisk, kRamdisk});
  const auto whole = describe_bytes(image);
  ASSERT_OK(whole);
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < format::kHeaderBytes; ++i) places.push_back(i);
  const auto reader = open_bytes(image);
  ASSERT_OK(reader);
  for (const Section& section : reader->sections()) {
    for (std::size_t i = 1; i <= format::kSectionHeaderBytes; ++i) places.push_back(section.offset_bytes - i);
  }
  for (const std::size_t place : places) {
    for (const int change : {1, 2, 4, 8, 16, 32, 64, 128, 255}) {
      std::string changed = image;
      changed[place] = static_cast<char>(changed[place] ^ change);
      const auto description = describe_bytes(changed);
      if (description) {
        ASSERT_FALSE(description->crc_ok) << "byte " << place << " xor " << change;
      } else {
        ASSERT_EQ(description.error().code(), ErrorCode::kEifParsing) << "byte " << place << " xor " << change;
      }
    }
  }
}

TEST(EifReader, NoticesDamageOfMetadataAndSignature) {
  const std::string image = small_signed_image();
  const auto reader = open_bytes(image);
  for (const SectionType type : {SectionType::kMetadata, SectionType::kSignature}) {
    const Section& section = *reader->find(type);
    for (std::size_t i = 0; i < section.size_bytes; ++i) {
      std::string changed = image;
      char& byte = changed[section.offset_bytes + i];
      byte = static_cast<char>(byte ^ 0x81);
      const auto description = describe_bytes(changed);
      if (description) {
        ASSERT_FALSE(description->crc_ok);
        // Whatever it says must be printable.
        ASSERT_FALSE(json_text(to_json(*description)).empty());
      } else {
        ASSERT_EQ(description.error().code(), ErrorCode::kEifParsing);
      }
    }
  }
}

TEST(EifReader, RefusesWhatIsNoImage) {
  expect_refused("", "does not begin with");
  expect_refused("\x7f\x45LF and more", "does not begin with");
  expect_refused(".eif", "less than the 548");
}

TEST(EifReader, KnowsVersionsTwoToFour) {
  const std::vector<Piece> pieces{kKernel, kCmdline, kMetadata, kRamdisk};
  for (const std::uint16_t version : std::initializer_list<std::uint16_t>{2, 3, 4}) {
    const auto reader = open_bytes(image_of(pieces, [&](RawHeader& header) { header.version = version; }));
    ASSERT_OK(reader);
    EXPECT_EQ(reader->header().version, version);
  }
  for (const std::uint16_t version : std::initializer_list<std::uint16_t>{0, 1, 5, 0x0400, 0xffff}) {
    expect_refused(image_of(pieces, [&](RawHeader& header) { header.version = version; }), "format version");
  }
}

TEST(EifReader, ReadsImagesWithoutMetadataOrRamdisks) {
  const auto description = describe_bytes(image_of({kKernel, kCmdline}));
  ASSERT_OK(description);
  EXPECT_TRUE(description->crc_ok);
  EXPECT_FALSE(description->metadata);
  EXPECT_EQ(description->measurements.pcr0, measure_bytes(as_bytes("kernelquiet")).value());
  EXPECT_EQ(description->measurements.pcr0, description->measurements.pcr1);
  EXPECT_EQ(description->measurements.pcr2, measure_bytes({}).value());
}

TEST(EifReader, MeasuresSectionsInAnyOrder) {
  const Piece second{3, "second"};
  const auto description = describe_bytes(image_of({kMetadata, kKernel, kRamdisk, second, kCmdline}));
  ASSERT_OK(description);
  EXPECT_EQ(description->measurements.pcr0, measure_bytes(as_bytes("kernelramdisksecondquiet")).value());
  EXPECT_EQ(description->measurements.pcr1, measure_bytes(as_bytes("kernelramdiskquiet")).value());
  EXPECT_EQ(description->measurements.pcr2, measure_bytes(as_bytes("second")).value());
}

TEST(EifReader, RefusesMissingAndRepeatedSections) {
  expect_refused(image_of({kCmdline, kMetadata}), "no kernel section");
  expect_refused(image_of({kKernel, kMetadata}), "no command line section");
  expect_refused(image_of({kKernel, kKernel, kCmdline}), "section 1 (kernel) at byte 566");
  expect_refused(image_of({kKernel, kCmdline, kCmdline}), "section 2 (command line)");
  expect_refused(image_of({kKernel, kCmdline, kMetadata, kMetadata}), "section 3 (metadata)");
  expect_refused(image_of({kKernel, kCmdline, {4, "s"}, {4, "s"}}), "section 3 (signature)");
  expect_refused(image_of({kRamdisk, kKernel, kCmdline}), "section 0 (ramdisk)");
  expect_refused(image_of({{1, ""}, kCmdline}), "section 0 (kernel) at byte 548: it is empty");
}

TEST(EifReader, RefusesUnknownSectionTypes) {
  for (const std::uint16_t type : std::initializer_list<std::uint16_t>{0, 6, 7, 0x0100, 0xffff}) {
    expect_refused(image_of({kKernel, kCmdline, {type, "x"}}), "there is no section type " + std::to_string(type));
  }
}

TEST(EifReader, TakesThirtyTwoSectionsAndRefusesAnyOtherCountOutsideTwoToThirtyTwo) {
  std::vector<Piece> pieces{kKernel, kCmdline};
  pieces.resize(32, kRamdisk);
  ASSERT_OK(describe_bytes(image_of(pieces)));
  pieces.resize(33, kRamdisk);
  expect_refused(image_of(pieces), "33 sections");
  expect_refused(image_of({kKernel}), "1 sections");
  for (const std::uint16_t count : std::initializer_list<std::uint16_t>{0, 1, 33, 0x8000, 0xffff}) {
    expect_refused(image_of({kKernel, kCmdline}, [&](RawHeader& header) { header.section_count = count; }),
                   std::to_string(count) + " sections");
  }
}

TEST(EifReader, RefusesOffsetsAndSizesThatDoNotHoldTogether) {
  constexpr auto kMax = std::numeric_limits<std::uint64_t>::max();
  const std::vector<Piece> pieces{kKernel, kCmdline, kMetadata, kRamdisk};
  for (std::size_t section = 0; section < pieces.size(); ++section) {
    for (const std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{547}, kMax, kMax - 11,
                                       kMax - 547, std::uint64_t{1} << 63, std::uint64_t{1} << 32}) {
      expect_refused(image_of(pieces, [&](RawHeader& header) { header.section_offsets[section] = offset; }),
                     "section " + std::to_string(section) + " at byte " + std::to_string(offset));
    }
    for (const std::int64_t shift : {-13, -12, -1, 1, 12}) {
      expect_refused(image_of(pieces,
                              [&](RawHeader& header) {
                                header.section_offsets[section] = static_cast<std::uint64_t>(
                                    static_cast<std::int64_t>(header.section_offsets[section]) + shift);
                              }),
                     shift < 0 ? "begins before" : "gap");
    }
    for (const std::uint64_t size : {std::uint64_t{0}, kMax, kMax - 11, kMax - 559, std::uint64_t{1} << 63}) {
      expect_refused(image_of(pieces, [&](RawHeader& header) { header.section_sizes[section] = size; }),
                     "its own header says");
    }
  }
}

TEST(EifReader, TakesTheSizeOfASignatureFromItsSection) {
  // nitro-cli 1.5.0 leaves the size of the signature that was there before in the image's header.
  auto image = read_file(golden("eif/resigned/image.eif"));
  const auto reader = open_bytes(image);
  ASSERT_OK(reader);
  const auto* signature = reader->find(SectionType::kSignature);
  ASSERT_NE(signature, nullptr);
  const auto index = static_cast<std::size_t>(signature - reader->sections().data());
  store_be(std::as_writable_bytes(std::span(image)).subspan(format::kSectionSizesOffset + 8 * index),
           signature->size_bytes + 3);
  const auto again = open_bytes(image);
  ASSERT_OK(again);
  EXPECT_EQ(again->find(SectionType::kSignature)->size_bytes, signature->size_bytes);
}

TEST(EifReader, RefusesSizesThatBothHeadersAgreeOnButTheFileDoesNotHave) {
  for (const std::uint64_t size :
       {std::uint64_t{8}, std::uint64_t{1} << 40, std::uint64_t{1} << 63, std::numeric_limits<std::uint64_t>::max(),
        std::numeric_limits<std::uint64_t>::max() - 559}) {
    std::string image = image_of({kCmdline, kKernel}, [&](RawHeader& header) { header.section_sizes[1] = size; });
    const auto section = encode_section_header({.type = 1, .flags = 0, .size_bytes = size});
    image.replace(image.size() - 18, 12, as_text(section));
    expect_refused(image, "it has " + std::to_string(size) + " bytes, but the file ends");
  }
}

TEST(EifReader, RefusesOversizedMetadataSignatureAndCommandLineBeforeReadingThem) {
  const std::string large(std::size_t{2} << 20, ' ');
  for (const std::uint16_t type : std::initializer_list<std::uint16_t>{4, 5}) {
    const auto description = describe_bytes(image_of({kKernel, kCmdline, {type, large}}));
    ASSERT_FALSE(description);
    EXPECT_EQ(description.error().code(), ErrorCode::kEifParsing);
    EXPECT_NE(description.error().message().find("more than the"), std::string::npos);
  }
  const auto reader = open_bytes(image_of({kKernel, {2, large}}));
  ASSERT_OK(reader);
  EXPECT_FALSE(reader->command_line());
}

TEST(EifReader, RefusesBrokenMetadata) {
  for (const char* text :
       {"", "{", "[]", "null", "{}", R"({"ImageName":1})", R"({"ImageName":"n","ImageVersion":"v"})"}) {
    const auto description = describe_bytes(image_of({kKernel, kCmdline, {5, text}}));
    ASSERT_FALSE(description) << text;
    EXPECT_EQ(description.error().code(), ErrorCode::kEifParsing) << text;
  }
}

TEST(EifReader, FailsWhenTheFileShrinksAfterItWasOpened) {
  Fd file = file_of(read_file(golden("eif/tiny/image.eif")));
  const Fd other(::dup(file.get()));
  const auto reader = Reader::open(std::move(file), "x.eif");
  ASSERT_OK(reader);
  ASSERT_EQ(::ftruncate(other.get(), 50000), 0);
  const auto description = reader->describe();
  ASSERT_FALSE(description);
  EXPECT_EQ(description.error().code(), ErrorCode::kFileOperation);
}

TEST(EifReader, IgnoresReservedFlags) {
  const auto reader = open_bytes(image_of({kKernel, kCmdline}, [](RawHeader& header) { header.flags = 0xfffe; }));
  ASSERT_OK(reader);
  EXPECT_EQ(reader->header().architecture, Architecture::kX86_64);
}

}  // namespace
}  // namespace nitro::eif
