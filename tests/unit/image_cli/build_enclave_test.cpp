// SPDX-License-Identifier: Apache-2.0
// The whole path from a container image to an enclave image, and what is left of it when something fails.
#include "src/image_cli/build_enclave.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include "nitro/eif/reader.h"
#include "temp_folder.h"
#include "tests/unit/eif/image/layer_maker.h"

namespace nitro::cli {
namespace {

using nitro::testing::read_file;
using nitro::testing::ScopedEnvironment;
using nitro::testing::TempFolder;
using nitro::testing::write_file;

const std::string kGolden = NITRO_TEST_DATA "/golden/";

std::string golden_uri(const std::string& name) {
  return "docker-archive:" + kGolden + "images/" + name + ".docker-archive.tar";
}

class BuildEnclave : public ::testing::Test {
 protected:
  BuildEnclave() {
    for (const char* name : {"bzImage", "bzImage.config", "cmdline", "init", "nsm.ko"}) {
      std::filesystem::copy_file(kGolden + "blobs/" + name, blobs_ / name);
    }
    options_.output_file = folder_ / "out.eif";
    options_.docker_uri = golden_uri("tiny");
    options_.architecture = "x86_64";
  }

  // What it prints on stdout.
  Result<std::string> build() {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const auto built = build_enclave(options_);
    auto printed = ::testing::internal::GetCapturedStdout();
    static_cast<void>(::testing::internal::GetCapturedStderr());
    if (!built) return Failure(built.error());
    return printed;
  }
  void expect_refusal(ErrorCode code, const std::string& part) {
    const auto built = build();
    ASSERT_FALSE(built);
    EXPECT_EQ(tag(built.error().code()), tag(code)) << built.error().message();
    EXPECT_PRED2(image::contains, built.error().message(), part);
    EXPECT_EQ(folder_.entries(), 0U) << "something was left behind";
  }

  TempFolder folder_;
  TempFolder blobs_;
  ScopedEnvironment blobs_variable_{"NITRO_CLI_BLOBS", blobs_.path().c_str()};
  BuildEnclaveOptions options_;
};

TEST_F(BuildEnclave, PrintsTheMeasurementsOfTheReference) {
  for (const char* name : {"both-cmd-entrypoint", "kinds", "layers", "noenv-entrypoint", "tiny"}) {
    options_.docker_uri = golden_uri(name);
    const auto printed = build();
    ASSERT_OK(printed);
    EXPECT_EQ(*printed, read_file(kGolden + "eif/" + name + "/build-enclave.stdout.json"));
  }
}

TEST_F(BuildEnclave, WritesTheMetadataOfTheReference) {
  ASSERT_OK(build());
  const auto reader = eif::Reader::open(options_.output_file);
  ASSERT_OK(reader);
  const auto metadata = reader->metadata();
  ASSERT_OK(metadata);
  ASSERT_TRUE(*metadata);
  EXPECT_EQ((*metadata)->image_name, "golden/tiny");
  EXPECT_EQ((*metadata)->image_version, "80804f5823a86680e3e0294c00181b277524a6048eb989f29fe42e8d87355dc9");
  EXPECT_EQ((*metadata)->build.build_tool, "nitro-cli");
  EXPECT_EQ((*metadata)->build.build_tool_version, "1.5.0");
  EXPECT_EQ((*metadata)->build.operating_system, "Linux");
  EXPECT_EQ((*metadata)->build.kernel_version, "6.12.1");
}

TEST_F(BuildEnclave, GivesTheSameFileTwiceWhenTheTimeIsGiven) {
  const ScopedEnvironment epoch("SOURCE_DATE_EPOCH", "1700000000");
  ASSERT_OK(build());
  const auto first = read_file(options_.output_file);
  ASSERT_OK(build());
  EXPECT_TRUE(first == read_file(options_.output_file));
}

TEST_F(BuildEnclave, NamesTheBlobThatIsMissing) {
  const std::vector<std::pair<const char*, ErrorCode>> table{{"cmdline", ErrorCode::kFileOperation},
                                                             {"bzImage.config", ErrorCode::kEifBuilding},
                                                             {"bzImage", ErrorCode::kEifBuilding},
                                                             {"init", ErrorCode::kEifBuilding}};
  for (const auto& [name, code] : table) {
    const auto content = read_file(blobs_ / name);
    std::filesystem::remove(blobs_ / name);
    expect_refusal(code, name);
    write_file(blobs_ / name, content);
  }
}

TEST_F(BuildEnclave, RefusesAnImageForAnotherArchitecture) {
  std::filesystem::rename(blobs_ / "bzImage", blobs_ / "Image");
  std::filesystem::rename(blobs_ / "bzImage.config", blobs_ / "Image.config");
  options_.architecture = "aarch64";
  expect_refusal(ErrorCode::kEifBuilding, "is for \"amd64\"");
  options_.architecture = "vax";
  expect_refusal(ErrorCode::kEifBuilding, "\"vax\"");
}

TEST_F(BuildEnclave, ChecksWhatTheUserSaysOfTheImageBeforeItLooksForOne) {
  options_.docker_uri = golden_uri("missing");
  for (const char* time : {"", "yesterday", "2024-02-30T00:00:00Z"}) {
    options_.build_time = time;
    expect_refusal(ErrorCode::kInvalidArgument, "--build-time");
  }
  options_.build_time = "2024-02-29T00:00:00Z";
  options_.image_name = "\xff";
  expect_refusal(ErrorCode::kInvalidArgument, "--name is not UTF-8");
  options_.image_name.reset();
  options_.image_version = "\xff";
  expect_refusal(ErrorCode::kInvalidArgument, "--version is not UTF-8");
  options_.image_version.reset();
  options_.metadata_path = blobs_ / "init";
  expect_refusal(ErrorCode::kEifBuilding, "no valid JSON");
  options_.metadata_path.reset();
  const ScopedEnvironment epoch("SOURCE_DATE_EPOCH", "yesterday");
  options_.build_time.reset();
  expect_refusal(ErrorCode::kInvalidArgument, "SOURCE_DATE_EPOCH");
}

TEST_F(BuildEnclave, WritesTheBuildTimeAsItIsGiven) {
  options_.build_time = "2024-02-29T01:02:03.4Z";
  ASSERT_OK(build());
  EXPECT_EQ(eif::Reader::open(options_.output_file)->metadata()->value().build.build_time, "2024-02-29T01:02:03.4Z");
}

TEST_F(BuildEnclave, NeedsBothHalvesOfASigner) {
  options_.private_key = "key.pem";
  expect_refusal(ErrorCode::kEifBuilding, "both a certificate and a private key");
}

TEST_F(BuildEnclave, RefusesAnOutputFolderThatIsMissing) {
  options_.output_file = folder_ / "missing/out.eif";
  expect_refusal(ErrorCode::kFileOperation, "missing");
}

TEST_F(BuildEnclave, RefusesAnImageThatCannotBeRead) {
  options_.docker_uri = "docker-archive:" + (blobs_ / "nothing.tar");
  expect_refusal(ErrorCode::kFileOperation, "nothing.tar");
  options_.docker_uri = golden_uri("tiny") + ":golden/kinds:1";
  expect_refusal(ErrorCode::kDockerImagePull, "it holds \"golden/tiny:1\"");
  options_.docker_uri = "Not A Name";
  expect_refusal(ErrorCode::kDockerImagePull, "\"Not A Name\"");
}

TEST_F(BuildEnclave, NeedsAPlainNameToBuildFromAFolder) {
  options_.docker_dir = folder_.path();
  expect_refusal(ErrorCode::kDockerImageBuild, "plain name");
  options_.docker_uri = "app:1";
  expect_refusal(ErrorCode::kDockerImageBuild, "Dockerfile");
  options_.docker_dir = "/nonexistent";
  expect_refusal(ErrorCode::kDockerImageBuild, "/nonexistent");
}

TEST_F(BuildEnclave, LeavesTheOlderFileAloneWhenALayerIsDamaged) {
  auto archive = read_file(kGolden + "images/tiny.docker-archive.tar");
  // In the content of bin/app, behind its header, where nothing but the digest tells.
  const auto header = archive.find(std::string("bin/app\0", 8));
  ASSERT_NE(header, std::string::npos);
  archive[header + 600] = static_cast<char>(archive[header + 600] + 1);
  write_file(blobs_ / "damaged.tar", archive);
  options_.docker_uri = "docker-archive:" + (blobs_ / "damaged.tar");
  write_file(options_.output_file, "older");
  const auto built = build();
  ASSERT_FALSE(built);
  EXPECT_PRED2(image::contains, built.error().message(), "the image is damaged");
  EXPECT_EQ(read_file(options_.output_file), "older");
  EXPECT_EQ(folder_.entries(), 1U);
}

TEST_F(BuildEnclave, SaysThatThereIsNoRoomAndLeavesNothing) {
  // A limit on the size of files stands for a full disk: write(2) fails in the same place.
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &old), 0);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{50'000, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto built = build_enclave(options_);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &old), 0);
  ::signal(SIGXFSZ, old_handler);
  ASSERT_FALSE(built);
  EXPECT_EQ(built.error().code(), ErrorCode::kFileOperation) << built.error().message();
  EXPECT_EQ(folder_.entries(), 0U);
}

}  // namespace
}  // namespace nitro::cli
