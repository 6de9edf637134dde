// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <sstream>

#include "nitro/eif/describe_json.h"
#include "nitro/eif/reader.h"
#include "src/base/bytes.h"
#include "tests/unit/eif/format/golden.h"

namespace nitro::eif {
namespace {

using testing::golden;
using testing::read_file;

class DescribeGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(DescribeGolden, SaysWhatTheReferencePrints) {
  const std::string folder = golden("eif/" + GetParam());
  const auto description = describe(folder + "/image.eif");
  ASSERT_OK(description);
  EXPECT_EQ(json_text(to_json(*description)) + "\n", read_file(folder + "/describe-eif.stdout.json"));
}

INSTANTIATE_TEST_SUITE_P(All, DescribeGolden, ::testing::ValuesIn(testing::golden_images()), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST(Describe, NamesTheFileThatIsNoImage) {
  const auto result = describe(golden("blobs/bzImage"));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::kEifParsing);
  EXPECT_NE(result.error().message().find("bzImage"), std::string::npos);
}

TEST(Describe, NamesTheFileThatIsMissing) {
  const auto result = describe("/nonexistent/x.eif");
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::kFileOperation);
  EXPECT_NE(result.error().message().find("/nonexistent/x.eif"), std::string::npos);
}

TEST(Describe, RefusesAFolderAndAFifo) {
  const testing::TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  for (const std::string& path : {folder.path(), folder / "fifo"}) {
    const auto result = describe(path);
    ASSERT_FALSE(result) << path;
    EXPECT_EQ(result.error().code(), ErrorCode::kFileOperation) << path;
  }
}

TEST(Describe, ReportsADamagedByteAsWrongCrcAndOtherRegisters) {
  const testing::TempFolder folder;
  std::string image = read_file(golden("eif/signed-ec384/image.eif"));
  image[600] = static_cast<char>(image[600] ^ 1);
  testing::write_file(folder / "x.eif", image);
  const auto damaged = describe(folder / "x.eif");
  ASSERT_OK(damaged);
  EXPECT_FALSE(damaged->crc_ok);
  ASSERT_TRUE(damaged->signature);
  EXPECT_TRUE(damaged->signature->check.signature_valid);
  EXPECT_FALSE(damaged->signature->covers_image);
  EXPECT_EQ(to_json(*damaged)["SignatureCheck"], false);
  const auto sound = describe(golden("eif/signed-ec384/image.eif"));
  ASSERT_OK(sound);
  EXPECT_NE(damaged->measurements.pcr0, sound->measurements.pcr0);
  EXPECT_EQ(damaged->measurements.pcr8, sound->measurements.pcr8);
}

TEST(DescribeJson, PutsTheUsersMetadataAfterOurs) {
  Metadata metadata;
  metadata.custom = {{"team", "x"}};
  EXPECT_EQ(json_text(to_json(metadata), 0),
            R"({"BuildTime":"","BuildTool":"","BuildToolVersion":"","OperatingSystem":"","KernelVersion":"",)"
            R"("DockerInfo":null,"team":"x"})");
}

TEST(DescribeJson, NestsMetadataThatWouldHideOurs) {
  Metadata metadata;
  metadata.custom = {{"BuildTool", "x"}};
  EXPECT_EQ(to_json(metadata)["BuildTool"], "");
  EXPECT_EQ(to_json(metadata)["CustomMetadata"]["BuildTool"], "x");
  metadata.custom = {1, 2};
  EXPECT_EQ(to_json(metadata)["CustomMetadata"], (nlohmann::ordered_json{1, 2}));
}

TEST(Measure, GivesTheRegistersOfFilesAndCertificatesThatTheReferencePrints) {
  const auto text = [](const char* key, const Pcr& pcr) {
    return json_text(nlohmann::ordered_json{{key, to_hex(pcr)}}) + "\n";
  };
  const Fd kernel = open_file(golden("blobs/bzImage"), O_RDONLY).value();
  const auto pcr = measure_stream(kernel.get());
  ASSERT_OK(pcr);
  EXPECT_EQ(text("PCR", *pcr), read_file(golden("blobs/bzImage.pcr.stdout.json")));
  for (const char* name : {"ec256", "ec384"}) {
    const std::string path = golden(std::string("keys/") + name);
    const auto pcr8 = measure_certificate(read_file(path + ".cert.pem"));
    ASSERT_OK(pcr8);
    EXPECT_EQ(text("PCR8", *pcr8), read_file(path + ".pcr.stdout.json"));
  }
}

}  // namespace
}  // namespace nitro::eif
