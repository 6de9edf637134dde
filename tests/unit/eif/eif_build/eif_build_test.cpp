// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "eif/eif_build/eif_build_command.h"
#include "nitro/eif/reader.h"
#include "tests/unit/eif/format/golden.h"

namespace nitro::eif {
namespace {

using testing::golden;
using testing::read_file;
using testing::TempFolder;
using testing::write_file;

struct Outcome {
  int status;
  std::string out;
  std::string err;
};

// At a time when the golden certificates are valid.
Outcome eif_build(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv{"eif_build"};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  std::ostringstream out;
  std::ostringstream err;
  auto environment = kms::Environment::of_process();
  environment.now = [] { return testing::kGoldenNow; };
  const int status = run_eif_build(static_cast<int>(argv.size()), argv.data(), out, err, environment);
  return {status, out.str(), err.str()};
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), std::istream_iterator<std::string>()};
}

// The golden arguments name files from the golden folder on.
class InGoldenFolder {
 public:
  InGoldenFolder() : old_(std::filesystem::current_path()) { std::filesystem::current_path(golden("")); }
  ~InGoldenFolder() { std::filesystem::current_path(old_); }
  InGoldenFolder(const InGoldenFolder&) = delete;
  InGoldenFolder& operator=(const InGoldenFolder&) = delete;

 private:
  std::filesystem::path old_;
};

class EifBuildGolden : public ::testing::TestWithParam<const char*> {};

TEST_P(EifBuildGolden, MakesTheReferencesFileAndOutput) {
  const std::string folder = std::string("eif/built-") + GetParam() + "/";
  const InGoldenFolder golden_folder;
  const TempFolder output_folder;
  auto arguments = words_of(read_file(folder + "arguments"));
  arguments.insert(arguments.end(), {"--output", output_folder / "image.eif"});
  const Outcome outcome = eif_build(arguments);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  std::string expected = read_file(folder + "eif_build.stdout.json");
  expected.replace(0, expected.find('\n'), "Output file: " + (output_folder / "image.eif"));
  EXPECT_EQ(outcome.out, expected);

  const std::string image = read_file(output_folder / "image.eif");
  if (GetParam() == std::string("signed")) {
    const auto description = describe(output_folder / "image.eif");
    ASSERT_OK(description);
    EXPECT_TRUE(description->crc_ok);
    ASSERT_TRUE(description->signature);
    EXPECT_TRUE(description->signature->covers_image);
  } else if (GetParam() == std::string("kernel-config")) {
    // The reference takes the time from the clock here, whatever it is told.
    const auto ours = Reader::open(output_folder / "image.eif")->metadata();
    auto theirs = Reader::open(folder + "image.eif")->metadata();
    ASSERT_OK(ours);
    ASSERT_OK(theirs);
    theirs->value().build.build_time = "2024-05-06T07:08:09.123456+00:00";
    EXPECT_EQ(**ours, **theirs);
  } else {
    EXPECT_TRUE(image == read_file(folder + "image.eif"));
  }
}

INSTANTIATE_TEST_SUITE_P(Built, EifBuildGolden,
                         ::testing::Values("one", "three", "arm64", "metadata", "sha256", "sha512", "signed",
                                           "kernel-config"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

std::vector<std::string> small_build(const TempFolder& folder) {
  return {"--kernel",  golden("blobs/bzImage"),           "--cmdline", "quiet",
          "--ramdisk", golden("eif/tiny/bootstrap.cpio"), "--output",  folder / "image.eif"};
}

TEST(EifBuild, NamesTheImageAfterTheKernelByDefault) {
  const TempFolder folder;
  const testing::ScopedEnvironment epoch("SOURCE_DATE_EPOCH", "1714979289");
  const Outcome outcome = eif_build(small_build(folder));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto reader = Reader::open(folder / "image.eif");
  ASSERT_OK(reader);
  const auto metadata = reader->metadata();
  ASSERT_OK(metadata);
  const Metadata expected{.image_name = "bzImage",
                          .image_version = "1.0",
                          .build = {.build_time = "2024-05-06T07:08:09+00:00",
                                    .build_tool = "eif_build",
                                    .build_tool_version = "0.3.1",
                                    .operating_system = "OS",
                                    .kernel_version = "kernel"},
                          .docker_info = {},
                          .custom = {}};
  EXPECT_EQ(**metadata, expected);
}

TEST(EifBuild, TakesTheVersionFromItsOwnOption) {
  const TempFolder folder;
  auto arguments = small_build(folder);
  arguments.insert(arguments.end(), {"--name=n", "--version=7"});
  ASSERT_EQ(eif_build(arguments).status, 0);
  const auto metadata = Reader::open(folder / "image.eif")->metadata();
  ASSERT_OK(metadata);
  EXPECT_EQ((*metadata)->image_name, "n");
  EXPECT_EQ((*metadata)->image_version, "7");
}

TEST(EifBuild, RefusesEmptyPathsInsteadOfLeavingOutWhatWasAskedFor) {
  const TempFolder folder;
  const std::vector<std::string> common{
      "--kernel",  golden("blobs/bzImage"),           "--cmdline", "q",
      "--ramdisk", golden("eif/tiny/bootstrap.cpio"), "--output",  folder / "image.eif"};
  const auto with = [&common](std::vector<std::string> more) {
    more.insert(more.begin(), common.begin(), common.end());
    return eif_build(more);
  };
  EXPECT_EQ(with({"--private-key", "", "--signing-certificate", golden("keys/ec384.cert.pem")}).status, 60);
  EXPECT_NE(with({"--metadata", ""}).status, 0);
  EXPECT_EQ(folder.entries(), 0U);
}

TEST(EifBuild, RefusesTextsThatCannotStandInAnImage) {
  const TempFolder folder;
  const std::pair<const char*, const char*> table[] = {
      {"--build-time", "\xff"}, {"--name", "\xff"},       {"--version", "\xff"},           {"--build-tool", "\xff"},
      {"--img-os", "\xff"},     {"--img-kernel", "\xff"}, {"--build-tool-version", "\xff"}};
  for (const auto& [option, value] : table) {
    auto arguments = small_build(folder);
    arguments.insert(arguments.end(), {option, value});
    const auto outcome = eif_build(arguments);
    EXPECT_EQ(outcome.status, 3) << option;
    EXPECT_NE(outcome.err.find(std::string("Invalid argument: ") + option + " "), std::string::npos) << outcome.err;
  }
  std::filesystem::create_symlink(golden("blobs/bzImage"), folder / "\xff");
  const auto outcome = eif_build({"--kernel", folder / "\xff", "--cmdline", "q", "--ramdisk", golden("blobs/init"),
                                  "--output", folder / "image.eif"});
  EXPECT_EQ(outcome.status, 3);
  EXPECT_NE(outcome.err.find("the kernel's file name"), std::string::npos) << outcome.err;
  EXPECT_EQ(folder.entries(), 1U);
}

TEST(EifBuild, RefusesAnEmptyKernel) {
  const TempFolder folder;
  std::ofstream(folder / "empty").close();
  const auto outcome = eif_build({"--kernel", folder / "empty", "--cmdline", "q", "--ramdisk", folder / "empty",
                                  "--output", folder / "image.eif"});
  EXPECT_EQ(outcome.status, 48);
  EXPECT_EQ(folder.entries(), 1U);
}

TEST(EifBuild, LeavesTheOldOutputWhenItFails) {
  const TempFolder folder;
  const TempFolder inputs;
  ASSERT_EQ(::mkfifo((inputs / "fifo").c_str(), 0600), 0);
  write_file(folder / "image.eif", "old");
  const std::string kernel = golden("blobs/bzImage");
  const std::string ramdisk = golden("eif/tiny/bootstrap.cpio");
  const auto build = [&](const std::string& kernel_file, const std::string& ramdisk_file,
                         std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"--kernel", kernel_file, "--cmdline", "", "--ramdisk", ramdisk_file, "--output",
                               folder / "image.eif"});
    return more;
  };
  const std::vector<std::pair<std::vector<std::string>, int>> table = {
      {build("/nonexistent", ramdisk), 19},
      {build(kernel, "/nonexistent"), 19},
      {build(folder.path(), ramdisk), 19},
      {build(inputs / "fifo", ramdisk), 19},
      {build(kernel, inputs / "fifo"), 19},
      {build(kernel, "/dev/zero"), 19},
      {build(kernel, ramdisk,
             {"--private-key", golden("keys/rsa.key.pem"), "--signing-certificate", golden("keys/rsa.cert.pem")}),
       60},
      {build(kernel, ramdisk, {"--metadata", golden("blobs/cmdline")}), 17},
      {{"--kernel", kernel, "--cmdline", "", "--ramdisk", ramdisk, "--output", folder / "none/image.eif"}, 19},
  };
  for (const auto& [arguments, status] : table) {
    const Outcome outcome = eif_build(arguments);
    EXPECT_EQ(outcome.status, status) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    EXPECT_NE(outcome.err.find("E" + std::to_string(status)), std::string::npos) << outcome.err;
    EXPECT_EQ(read_file(folder / "image.eif"), "old");
    EXPECT_EQ(folder.entries(), 1U);
  }
}

TEST(EifBuild, RefusesCommandLinesItDoesNotUnderstand) {
  const TempFolder folder;
  const auto with = [&](const std::vector<std::string>& more) {
    auto arguments = small_build(folder);
    arguments.insert(arguments.end(), more.begin(), more.end());
    return eif_build(arguments).status;
  };
  EXPECT_EQ(with({"--arch", "mips"}), 2);
  EXPECT_EQ(with({"--algo", "md5"}), 2);
  EXPECT_EQ(with({"--private-key", "x"}), 2);
  EXPECT_EQ(with({"--signing-certificate", "x"}), 2);
  EXPECT_EQ(with({"--nonsense"}), 2);
  EXPECT_EQ(with({"extra"}), 2);
  EXPECT_EQ(eif_build({}).status, 2);
  EXPECT_EQ(folder.entries(), 0U);
}

TEST(EifBuild, PrintsHelpOnStdout) {
  const Outcome outcome = eif_build({"--help"});
  EXPECT_EQ(outcome.status, 0);
  for (const char* option :
       {"--kernel", "--kernel_config", "--cmdline", "--output", "--ramdisk", "--signing-certificate", "--private-key",
        "--name", "--version", "--metadata", "--arch", "--build-time", "--build-tool", "--build-tool-version",
        "--img-os", "--img-kernel", "--algo"}) {
    EXPECT_NE(outcome.out.find(option), std::string::npos) << option;
  }
}

}  // namespace
}  // namespace nitro::eif
