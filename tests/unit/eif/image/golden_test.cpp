// SPDX-License-Identifier: Apache-2.0
// The ramdisks of tests/data/golden/images are the reference's, byte for byte.
#include <gtest/gtest.h>

#include "eif/image/decompress.h"
#include "eif/image/image.h"
#include "eif/image/inspection.h"
#include "eif/image/ramdisk.h"
#include "temp_folder.h"
#include "tests/unit/eif/image/layer_maker.h"

namespace nitro::image {
namespace {

const std::string kGolden = NITRO_TEST_DATA "/golden/";

std::string archive_path(const std::string& name) {
  return kGolden + "images/" + name + ".docker-archive.tar";
}

class GoldenImage : public ::testing::TestWithParam<const char*> {
 protected:
  static void expect_the_references_ramdisk(Result<ImageSource> source) {
    const auto actual = ramdisk_of(std::move(source));
    ASSERT_OK(actual);
    expect_same_bytes(*actual, nitro::testing::read_file(kGolden + "eif/" + GetParam() + "/customer.cpio"));
  }
};

TEST_P(GoldenImage, GivesTheRamdiskOfTheReferenceFromADockerArchive) {
  expect_the_references_ramdisk(
      open_docker_archive({Transport::kDockerArchive, archive_path(GetParam()), {}}, plenty()));
}

TEST_P(GoldenImage, IsFoundByItsNameInTheArchive) {
  const auto name = std::string("docker.io/golden/") + GetParam() + ":1";
  expect_the_references_ramdisk(
      open_docker_archive({Transport::kDockerArchive, archive_path(GetParam()), name}, plenty()));
}

TEST_P(GoldenImage, GivesTheSameRamdiskFromAnOciLayout) {
  // The layout is made by hand from the archive: its configuration, its layers, a manifest and an index.
  const nitro::testing::TempFolder folder;
  auto source = open_docker_archive({Transport::kDockerArchive, archive_path(GetParam()), {}}, plenty());
  ASSERT_OK(source);
  std::filesystem::create_directories(folder / "blobs/sha256");
  const auto store = [&folder](const std::string& bytes, const char* type) {
    const auto digest = sha256(as_bytes(bytes));
    nitro::testing::write_file(folder / ("blobs/sha256/" + digest.substr(7)), bytes);
    return nlohmann::ordered_json{{"mediaType", type}, {"digest", digest}, {"size", bytes.size()}};
  };
  nlohmann::ordered_json manifest{{"schemaVersion", 2}};
  manifest["config"] = store(source->config->dump(), "application/vnd.oci.image.config.v1+json");
  manifest["layers"] = nlohmann::ordered_json::array();
  for (const auto& layer : source->layers) {
    manifest["layers"].push_back(store(*layer.content.text(1 << 20), "application/vnd.oci.image.layer.v1.tar"));
  }
  auto entry = store(manifest.dump(), "application/vnd.oci.image.manifest.v1+json");
  entry["platform"] = {{"os", "linux"}, {"architecture", "amd64"}};
  auto other = entry;
  other["platform"]["architecture"] = "s390x";
  auto index =
      store(nlohmann::ordered_json{{"manifests", {other, entry}}}.dump(), "application/vnd.oci.image.index.v1+json");
  index["annotations"] = {{"org.opencontainers.image.ref.name", "latest"}};
  nitro::testing::write_file(folder / "index.json", nlohmann::ordered_json{{"manifests", {index}}}.dump());

  expect_the_references_ramdisk(open_oci_folder({Transport::kOci, folder.path(), {}}, {"amd64"}, plenty()));
  expect_the_references_ramdisk(open_oci_folder({Transport::kOci, folder.path(), "latest"}, {"amd64"}, plenty()));
  const auto missing = open_oci_folder({Transport::kOci, folder.path(), {}}, {"arm64"}, plenty());
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ErrorCode::kDockerImagePull);
  EXPECT_NE(missing.error().message().find("linux/s390x"), std::string::npos) << missing.error().message();
}

INSTANTIATE_TEST_SUITE_P(Images, GoldenImage,
                         ::testing::Values("both-cmd-entrypoint", "kinds", "layers", "noenv-entrypoint", "tiny"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(GoldenBootstrap, IsTheRamdiskOfTheReference) {
  const auto init = open_extent(kGolden + "blobs/init");
  const auto nsm = open_extent(kGolden + "blobs/nsm.ko");
  ASSERT_OK(init);
  ASSERT_OK(nsm);
  const auto actual = collect([&](const ByteSink& sink) { return write_bootstrap_ramdisk(*init, *nsm, sink); });
  ASSERT_OK(actual);
  expect_same_bytes(*actual, nitro::testing::read_file(kGolden + "eif/tiny/bootstrap.cpio"));
}

TEST(GoldenBootstrap, LeavesOutADriverThatIsBuiltIntoTheKernel) {
  const auto actual =
      collect([](const ByteSink& sink) { return write_bootstrap_ramdisk(extent_of("init"), std::nullopt, sink); });
  ASSERT_OK(actual);
  EXPECT_EQ(actual->find("nsm.ko"), std::string::npos);
  EXPECT_EQ(actual->size() % 512, 0U);
}

TEST(Inspection, IsWhatDockerSaysOfTheImageAfterLoadingIt) {
  auto source = open_docker_archive({Transport::kDockerArchive, archive_path("both-cmd-entrypoint"), {}}, plenty());
  ASSERT_OK(source);
  auto image = Image::load(std::move(*source), plenty());
  ASSERT_OK(image);
  auto expected = nlohmann::ordered_json::parse(nitro::testing::read_file(
      kGolden + "eif/both-cmd-entrypoint/describe-eif.stdout.json"))["Metadata"]["DockerInfo"];
  // Known to the machine where it was built only.
  expected["Parent"] = "";
  expected["Metadata"]["LastTagTime"] = "0001-01-01T00:00:00Z";
  EXPECT_EQ(describe_image(*image, Describer::kEngine).dump(2), expected.dump(2));
}

TEST(DockerArchive, CutAtAnyLengthIsRefusedOrGivesTheSameImage) {
  const auto whole = nitro::testing::read_file(archive_path("layers"));
  const auto expected = nitro::testing::read_file(kGolden + "eif/layers/customer.cpio");
  for (std::size_t size = 0; size < whole.size(); size += size < 2048 ? 17 : 509) {
    const auto actual = ramdisk_of(read_docker_archive(extent_of(whole.substr(0, size)), {}, plenty()));
    // Only the end of the archive, which is all zeros, may be missing.
    if (actual) {
      EXPECT_EQ(whole.find_first_not_of('\0', size), std::string::npos) << size;
      expect_same_bytes(*actual, expected);
    } else {
      EXPECT_EQ(actual.error().code(), ErrorCode::kEifBuilding) << size;
      EXPECT_FALSE(actual.error().message().empty());
    }
  }
}

TEST(DockerArchive, WithAnyByteChangedNeverGivesAnotherImage) {
  const auto whole = nitro::testing::read_file(archive_path("tiny"));
  const auto expected = nitro::testing::read_file(kGolden + "eif/tiny/customer.cpio");
  for (std::size_t at = 0; at < whole.size(); at += 13) {
    auto changed = whole;
    changed[at] = static_cast<char>(changed[at] ^ 0x21);
    if (const auto actual = ramdisk_of(read_docker_archive(extent_of(changed), {}, plenty())))
      expect_same_bytes(*actual, expected);
  }
}

}  // namespace
}  // namespace nitro::image
