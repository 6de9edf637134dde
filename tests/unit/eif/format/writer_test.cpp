// SPDX-License-Identifier: Apache-2.0
#include "nitro/eif/writer.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <sstream>

#include "nitro/eif/reader.h"
#include "nitro/fd.h"
#include "src/base/bytes.h"
#include "tests/unit/eif/format/golden.h"

namespace nitro::eif {
namespace {

using testing::golden;
using testing::read_file;
using testing::TempFolder;

// What `eif_build` was given for golden/eif/built-*: the file of arguments has one line of words.
struct Arguments {
  std::string kernel;
  std::string cmdline;
  std::vector<std::string> ramdisks;
  Metadata metadata;
  WriterOptions options;
  std::string key;
  std::string certificate;
};

Arguments read_arguments(const std::string& name) {
  Arguments arguments;
  std::istringstream words(read_file(golden("eif/" + name + "/arguments")));
  std::string flag;
  std::string value;
  while (words >> flag >> value) {
    if (flag == "--kernel") arguments.kernel = value;
    if (flag == "--cmdline") arguments.cmdline = value;
    if (flag == "--ramdisk") arguments.ramdisks.push_back(value);
    if (flag == "--name") arguments.metadata.image_name = value;
    if (flag == "--version") arguments.metadata.image_version = value;
    if (flag == "--build-time") arguments.metadata.build.build_time = value;
    if (flag == "--build-tool") arguments.metadata.build.build_tool = value;
    if (flag == "--build-tool-version") arguments.metadata.build.build_tool_version = value;
    if (flag == "--img-os") arguments.metadata.build.operating_system = value;
    if (flag == "--img-kernel") arguments.metadata.build.kernel_version = value;
    if (flag == "--metadata") arguments.metadata.custom = read_custom_metadata(golden(value)).value();
    if (flag == "--arch" && value == "aarch64") arguments.options.architecture = Architecture::kAarch64;
    if (flag == "--algo" && value == "sha256") arguments.options.algorithm = HashAlgorithm::kSha256;
    if (flag == "--algo" && value == "sha512") arguments.options.algorithm = HashAlgorithm::kSha512;
    if (flag == "--private-key") arguments.key = value;
    if (flag == "--signing-certificate") arguments.certificate = value;
    if (flag == "--kernel_config") {
      // The reference takes the build time of such an image from the clock, and the tool's name from itself.
      const auto kernel = read_kernel_identity(golden(value)).value();
      EXPECT_EQ(kernel.operating_system, "Linux");
      EXPECT_EQ(kernel.version, "6.12.1");
    }
  }
  return arguments;
}

Fd create_file(const std::string& path) {
  return open_file(path, O_RDWR | O_CREAT | O_TRUNC, 0600).value();
}

Result<Measurements> write_image(const Arguments& arguments, int fd) {
  NITRO_TRY(Writer writer, Writer::create(fd, arguments.options));
  NITRO_TRY(const Fd kernel, open_file(golden(arguments.kernel), O_RDONLY));
  NITRO_CHECK(writer.add_kernel(from_file(kernel.get(), "kernel")));
  NITRO_CHECK(writer.add_cmdline(arguments.cmdline));
  NITRO_CHECK(writer.add_metadata(arguments.metadata));
  for (const std::string& name : arguments.ramdisks) {
    NITRO_TRY(const Fd ramdisk, open_file(golden(name), O_RDONLY));
    NITRO_CHECK(writer.add_ramdisk(from_file(ramdisk.get(), "ramdisk")));
  }
  return writer.finish();
}

class WriterGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(WriterGolden, MakesTheReferencesBytes) {
  const std::string name = GetParam();
  const TempFolder folder;
  const Fd fd = create_file(folder / "image.eif");
  const auto measurements = write_image(read_arguments(name), fd.get());
  ASSERT_OK(measurements);
  // Not EXPECT_EQ: nobody wants to read 80 kB of binary.
  EXPECT_TRUE(read_file(folder / "image.eif") == read_file(golden("eif/" + name + "/image.eif")));
  const std::string printed = "Output file: eif/" + name + "/image.eif\n" +
                              json_text(to_json(*measurements, AlgorithmSpelling::kEifBuild)) + "\n";
  EXPECT_EQ(printed, read_file(golden("eif/" + name + "/eif_build.stdout.json")));
}

INSTANTIATE_TEST_SUITE_P(Built, WriterGolden,
                         ::testing::Values("built-one", "built-three", "built-arm64", "built-metadata", "built-sha256",
                                           "built-sha512"),
                         [](const auto& test) { return std::string(test.param).substr(6); });

TEST(Writer, MakesTheImageWithKernelConfigurationButForTheBuildTime) {
  const TempFolder folder;
  const auto expected = describe(golden("eif/built-kernel-config/image.eif"));
  ASSERT_OK(expected);
  Arguments arguments = read_arguments("built-kernel-config");
  arguments.metadata.build = expected->metadata->build;
  const Fd fd = create_file(folder / "image.eif");
  ASSERT_OK(write_image(arguments, fd.get()));
  EXPECT_TRUE(read_file(folder / "image.eif") == read_file(golden("eif/built-kernel-config/image.eif")));
}

TEST(Writer, MakesTheSignedImageButForTheSignatureBytes) {
  const TempFolder folder;
  Arguments arguments = read_arguments("built-signed");
  const auto signer = load_signer(golden(arguments.key), golden(arguments.certificate), testing::kGoldenNow);
  ASSERT_OK(signer);
  arguments.options.signer = signer->get();
  const Fd fd = create_file(folder / "image.eif");
  const auto measurements = write_image(arguments, fd.get());
  ASSERT_OK(measurements);
  EXPECT_EQ(json_text(to_json(*measurements, AlgorithmSpelling::kEifBuild)) + "\n",
            read_file(golden("eif/built-signed/eif_build.stdout.json"))
                .substr(std::string("Output file: eif/built-signed/image.eif\n").size()));

  const auto ours = Reader::open(folder / "image.eif");
  const auto theirs = Reader::open(golden("eif/built-signed/image.eif"));
  ASSERT_OK(ours);
  ASSERT_OK(theirs);
  const auto our_entry = ours->signatures();
  const auto their_entry = theirs->signatures();
  ASSERT_OK(our_entry);
  ASSERT_OK(their_entry);
  ASSERT_EQ(our_entry->size(), 1U);
  EXPECT_EQ(our_entry->at(0).certificate_pem, their_entry->at(0).certificate_pem);
  // The message ends with r and s, 48 bytes each; all before is determined.
  auto our_message = our_entry->at(0).cose_sign1;
  auto their_message = their_entry->at(0).cose_sign1;
  ASSERT_EQ(our_message.size(), their_message.size());
  our_message.resize(our_message.size() - 96);
  their_message.resize(their_message.size() - 96);
  EXPECT_EQ(our_message, their_message);
  const std::string ours_bytes = read_file(folder / "image.eif");
  const std::string theirs_bytes = read_file(golden("eif/built-signed/image.eif"));
  const std::size_t signature = ours->find(SectionType::kSignature)->offset_bytes - 12;
  EXPECT_TRUE(ours_bytes.substr(548, signature - 548) == theirs_bytes.substr(548, signature - 548));
  const auto description = ours->describe();
  ASSERT_OK(description);
  EXPECT_TRUE(description->crc_ok);
  EXPECT_TRUE(description->signature->covers_image);
}

// The images that build-enclave made, from the two ramdisks that went into them.
class WriterEnclave : public ::testing::TestWithParam<const char*> {};

TEST_P(WriterEnclave, MakesTheReferencesBytes) {
  const std::string image = golden(std::string("eif/") + GetParam() + "/");
  const auto expected = Reader::open(image + "image.eif");
  ASSERT_OK(expected);
  const auto metadata = expected->metadata();
  ASSERT_OK(metadata);
  const auto cmdline = expected->command_line();
  ASSERT_OK(cmdline);
  EXPECT_EQ(*cmdline + "\n", read_file(golden("blobs/cmdline")));

  const TempFolder folder;
  const Fd fd = create_file(folder / "image.eif");
  auto writer = Writer::create(fd.get());
  ASSERT_OK(writer);
  const std::string kernel = read_file(golden("blobs/bzImage"));
  ASSERT_OK(writer->add_kernel(from_bytes(as_bytes(kernel))));
  ASSERT_OK(writer->add_cmdline(*cmdline));
  ASSERT_OK(writer->add_metadata(**metadata));
  for (const char* name : {"bootstrap.cpio", "customer.cpio"}) {
    const std::string ramdisk = read_file(image + name);
    ASSERT_OK(writer->add_ramdisk([&](const ByteSink& sink) -> Result<void> {
      // In pieces of all sizes.
      for (std::size_t done = 0, size = 1; done < ramdisk.size(); done += size, size = size * 3 + 1) {
        NITRO_CHECK(sink(as_bytes(std::string_view(ramdisk).substr(done, size))));
      }
      return {};
    }));
  }
  const auto measurements = writer->finish();
  ASSERT_OK(measurements);
  EXPECT_TRUE(read_file(folder / "image.eif") == read_file(image + "image.eif"));
  nlohmann::ordered_json printed;
  printed["Measurements"] = to_json(*measurements);
  EXPECT_EQ(json_text(printed) + "\n", read_file(image + "build-enclave.stdout.json"));
}

INSTANTIATE_TEST_SUITE_P(Images, WriterEnclave, ::testing::Values("tiny", "kinds"),
                         [](const auto& test) { return std::string(test.param); });

// A small image with `ramdisks` ramdisks of which the last is `size` bytes long.
Result<Measurements> write_small(int fd, std::size_t ramdisks, std::size_t size = 1,
                                 const WriterOptions& options = {}) {
  NITRO_TRY(Writer writer, Writer::create(fd, options));
  NITRO_CHECK(writer.add_kernel(from_bytes(as_bytes("kernel"))));
  NITRO_CHECK(writer.add_cmdline("quiet"));
  NITRO_CHECK(writer.add_metadata({}));
  for (std::size_t i = 0; i < ramdisks; ++i) {
    const std::string ramdisk(i + 1 == ramdisks ? size : 1, static_cast<char>('a' + i));
    NITRO_CHECK(writer.add_ramdisk(from_bytes(as_bytes(ramdisk))));
  }
  return writer.finish();
}

TEST(Writer, GivesWhatTheReaderMeasures) {
  const TempFolder folder;
  for (const std::size_t ramdisks : {0U, 1U, 2U, 3U, 29U}) {
    // 12 MB is beyond the size from which threads hash.
    for (const std::size_t size : {0U, 1U, 262143U, 262144U, 262145U, 12000000U}) {
      const Fd fd = create_file(folder / "image.eif");
      const auto written = write_small(fd.get(), ramdisks, size);
      ASSERT_OK(written);
      const auto read = describe(folder / "image.eif");
      ASSERT_OK(read);
      EXPECT_TRUE(read->crc_ok) << ramdisks << " ramdisks, " << size;
      EXPECT_EQ(read->measurements, *written) << ramdisks << " ramdisks, " << size;
    }
  }
}

TEST(Writer, MeasuresLargeRamdisksOnThreadsAsItDoesInOneGo) {
  const TempFolder folder;
  const Fd fd = create_file(folder / "image.eif");
  constexpr std::size_t kSize = 12000000;
  const auto written = write_small(fd.get(), 3, kSize);
  ASSERT_OK(written);
  const std::string common = "kernelquiet";
  const std::string later = std::string("b") + std::string(kSize, 'c');
  EXPECT_EQ(written->pcr0, measure_bytes(as_bytes(common + "a" + later)).value());
  EXPECT_EQ(written->pcr1, measure_bytes(as_bytes(common + "a")).value());
  EXPECT_EQ(written->pcr2, measure_bytes(as_bytes(later)).value());
}

TEST(Writer, TakesARamdiskThatIsWrittenInAnyOrderAsTheSameRamdisk) {
  const TempFolder folder;
  static constexpr std::size_t kSize = 12000000;
  const Fd streamed = create_file(folder / "streamed.eif");
  const auto expected = write_small(streamed.get(), 1, kSize);
  ASSERT_OK(expected);

  const Fd placed = create_file(folder / "placed.eif");
  auto writer = Writer::create(placed.get());
  ASSERT_OK(writer);
  ASSERT_OK(writer->add_kernel(from_bytes(as_bytes("kernel"))));
  ASSERT_OK(writer->add_cmdline("quiet"));
  ASSERT_OK(writer->add_metadata({}));
  ASSERT_OK(writer->add_ramdisk_in_place([](int fd, std::uint64_t offset) -> Result<std::uint64_t> {
    const std::string half(kSize / 2, 'a');
    NITRO_CHECK(pwrite_all(fd, as_bytes(half), offset + kSize / 2));
    NITRO_CHECK(pwrite_all(fd, as_bytes(half), offset));
    return kSize;
  }));
  const auto measured = writer->finish();
  ASSERT_OK(measured);
  EXPECT_EQ(*measured, *expected);
  EXPECT_TRUE(read_file(folder / "placed.eif") == read_file(folder / "streamed.eif"));
}

TEST(Writer, RefusesARamdiskThatIsNotWhereItsWriterSays) {
  const TempFolder folder;
  const Fd fd = create_file(folder / "image.eif");
  auto writer = Writer::create(fd.get());
  ASSERT_OK(writer);
  ASSERT_OK(writer->add_kernel(from_bytes(as_bytes("kernel"))));
  ASSERT_OK(writer->add_cmdline("quiet"));
  ASSERT_OK(writer->add_metadata({}));
  EXPECT_FALSE(writer->add_ramdisk_in_place([](int, std::uint64_t) -> Result<std::uint64_t> { return 5; }));
}

TEST(Writer, RefusesTheRamdiskThatHasNoSectionLeft) {
  const TempFolder folder;
  const Fd fd = create_file(folder / "image.eif");
  ASSERT_OK(write_small(fd.get(), 29));
  const auto too_many = write_small(fd.get(), 30);
  ASSERT_FALSE(too_many);
  EXPECT_EQ(too_many.error().code(), ErrorCode::kEifBuilding);

  const auto signer = load_signer(golden("keys/ec384.key.pem"), golden("keys/ec384.cert.pem"), testing::kGoldenNow);
  ASSERT_OK(signer);
  ASSERT_OK(write_small(fd.get(), 28, 1, {.signer = signer->get()}));
  ASSERT_OK(describe(folder / "image.eif"));
  EXPECT_FALSE(write_small(fd.get(), 29, 1, {.signer = signer->get()}));
}

TEST(Writer, RefusesACommandLineWithAZeroByte) {
  const TempFolder folder;
  const Fd fd = create_file(folder / "image.eif");
  auto writer = Writer::create(fd.get());
  ASSERT_OK(writer);
  ASSERT_OK(writer->add_kernel(from_bytes(as_bytes("kernel"))));
  const auto added = writer->add_cmdline(std::string_view("a\0b", 3));
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), ErrorCode::kEifBuilding);
}

TEST(Writer, RefusesMetadataThatIsNoUtf8) {
  const TempFolder folder;
  const Fd fd = create_file(folder / "image.eif");
  auto writer = Writer::create(fd.get());
  ASSERT_OK(writer);
  ASSERT_OK(writer->add_kernel(from_bytes(as_bytes("kernel"))));
  ASSERT_OK(writer->add_cmdline(""));
  Metadata metadata;
  metadata.image_name = "\xff";
  const auto added = writer->add_metadata(metadata);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), ErrorCode::kEifBuilding);
}

TEST(Writer, HandsOnTheFailureOfAProducer) {
  const TempFolder folder;
  const Fd fd = create_file(folder / "image.eif");
  auto writer = Writer::create(fd.get());
  ASSERT_OK(writer);
  const auto added =
      writer->add_kernel([](const ByteSink&) -> Result<void> { return fail(ErrorCode::kDockerImagePull, "no more"); });
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), ErrorCode::kDockerImagePull);
}

TEST(Writer, FailsWhenTheProducerSwallowsAFailureOfTheFile) {
  // A file that may not grow, as on a full disk.
  const Fd full(::memfd_create("full", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::fcntl(full.get(), F_ADD_SEALS, F_SEAL_GROW), 0);
  auto writer = Writer::create(full.get());
  ASSERT_OK(writer);
  const std::string large(1 << 20, 'x');
  const auto added = writer->add_kernel([&](const ByteSink& sink) -> Result<void> {
    static_cast<void>(sink(as_bytes(large)));
    return {};
  });
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code(), ErrorCode::kFileOperation);
}

TEST(Writer, ReplacesWhatWasInTheFile) {
  const TempFolder folder;
  testing::write_file(folder / "image.eif", std::string(100000, 'x'));
  const Fd fd = open_file(folder / "image.eif", O_RDWR).value();
  ASSERT_OK(write_small(fd.get(), 1));
  ASSERT_OK(describe(folder / "image.eif"));
}

TEST(Writer, CanBeLeftBeforeTheEnd) {
  const TempFolder folder;
  const Fd fd = create_file(folder / "image.eif");
  auto writer = Writer::create(fd.get());
  ASSERT_OK(writer);
  const std::string large(16 << 20, 'x');
  ASSERT_OK(writer->add_kernel(from_bytes(as_bytes(large))));
}

TEST(Writer, CallsOutOfOrderAreBugs) {
  const TempFolder folder;
  const Fd fd = create_file(folder / "image.eif");
  auto writer = Writer::create(fd.get());
  ASSERT_OK(writer);
  EXPECT_THROW(static_cast<void>(writer->add_cmdline("x")), std::logic_error);
  EXPECT_THROW(static_cast<void>(writer->finish()), std::logic_error);
}

}  // namespace
}  // namespace nitro::eif
