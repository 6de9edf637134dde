// SPDX-License-Identifier: Apache-2.0
#include "src/cli/run_settings.h"

#include <gtest/gtest.h>

#include "src/cli/run_config.h"
#include "tests/support/temp_folder.h"

namespace nitro::cli {
namespace {

using Ids = std::vector<std::uint32_t>;

RunOptions options() {
  RunOptions options;
  options.eif_path = "/images/a.eif";
  options.memory = "2G";
  options.cpu_count = "2";
  return options;
}

ErrorCode refusal(const RunOptions& given) {
  const auto settings = read_settings(given);
  EXPECT_FALSE(settings);
  return settings ? ErrorCode::kUnspecified : settings.error().code();
}

TEST(RunSettings, AreWhatTheOptionsSay) {
  RunOptions given = options();
  given.enclave_cid = "4294967294";
  given.attach_console = true;
  given.hugepage_size = "1G";
  const auto settings = read_settings(given);
  ASSERT_TRUE(settings);
  EXPECT_EQ(settings->request.memory.mib(), 2048U);
  EXPECT_EQ(std::get<std::uint32_t>(settings->request.cpus), 2U);
  EXPECT_EQ(settings->request.enclave_cid, 4294967294U);
  EXPECT_EQ(settings->request.enclave_name, "a");
  EXPECT_EQ(settings->request.hugepage_size->mib(), 1024U);
  EXPECT_TRUE(settings->attach_console);
  EXPECT_TRUE(settings->request.debug_mode);

  given = options();
  given.cpu_count.reset();
  given.cpu_ids = {"3", "1"};
  given.enclave_name = "";
  const auto by_ids = read_settings(given);
  ASSERT_TRUE(by_ids);
  EXPECT_EQ(std::get<Ids>(by_ids->request.cpus), (Ids{3, 1}));
  EXPECT_EQ(by_ids->request.enclave_cid, std::nullopt);
  EXPECT_EQ(by_ids->request.enclave_name, "");
  EXPECT_FALSE(by_ids->request.debug_mode);
}

TEST(RunSettings, TakeNoEmptyValueForAnOptionThatIsNotGiven) {
  for (std::optional<std::string> RunOptions::*member :
       {&RunOptions::memory, &RunOptions::cpu_count, &RunOptions::enclave_cid}) {
    RunOptions given = options();
    given.*member = "";
    EXPECT_EQ(refusal(given), ErrorCode::kInvalidArgument);
  }
  RunOptions given = options();
  given.hugepage_size = "";
  EXPECT_EQ(refusal(given), ErrorCode::kNoSuchHugepageFlag);
  given = RunOptions();
  given.config = "";
  EXPECT_EQ(refusal(given), ErrorCode::kFileOperation);
}

TEST(RunSettings, HaveAUsableNameWhateverTheImageIsCalled) {
  for (const auto& [path, name] : {std::pair("a.eif", "a"),
                                   {"/x/a.eif.eif", "a"},
                                   {".eif", ".eif"},
                                   {"a", "a"},
                                   {"", "enclave"},
                                   {"a/", "enclave"}}) {
    RunOptions given = options();
    given.eif_path = path;
    EXPECT_EQ(read_settings(given)->request.enclave_name, name) << path;
  }
}

TEST(RunConfig, ChoosesTheCpusByOneMemberOfTwo) {
  const auto with = [](const std::string& members) {
    return parse_config(R"({"eif_path": "a.eif", "memory_mib": 64, )" + members + "}");
  };
  EXPECT_EQ(std::get<std::uint32_t>(with(R"("cpu_count": 0)")->request.cpus), 0U);
  EXPECT_EQ(std::get<Ids>(with(R"("cpu_ids": [])")->request.cpus), Ids());
  EXPECT_EQ(std::get<Ids>(with(R"("cpu_count": null, "cpu_ids": [4294967295])")->request.cpus), Ids{4294967295});
  EXPECT_EQ(with(R"("cpu_ids": null)").error().code(), ErrorCode::kMissingArgument);
  EXPECT_EQ(with(R"("cpu_ids": [], "cpu_count": 1)").error().code(), ErrorCode::kConflictingArgument);
  for (const char* wrong : {R"("cpu_count": -1)", R"("cpu_count": "1")", R"("cpu_count": 1.0)", R"("cpu_ids": [-1])",
                            R"("cpu_ids": 1)", R"("cpu_count": 4294967296)"}) {
    EXPECT_EQ(with(wrong).error().code(), ErrorCode::kSerde) << wrong;
  }
}

TEST(RunConfig, NamesItsFileWhenItIsAtFault) {
  const testing::TempFolder folder;
  testing::write_file(folder / "c.json", "[]");
  RunOptions given;
  given.config = folder / "c.json";
  const auto settings = read_settings(given);
  ASSERT_FALSE(settings);
  EXPECT_EQ(settings.error().code(), ErrorCode::kSerde);
  EXPECT_NE(settings.error().message().find("c.json"), std::string::npos);
}

}  // namespace
}  // namespace nitro::cli
