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

TEST(RunSettings, AreForTheEngineThatTheOptionOrTheEnvironmentNames) {
  const struct {
    const char* variable;
    bool option;
    proc::Backend backend;
  } cases[] = {
      {nullptr, false, proc::Backend::kDevice}, {nullptr, true, proc::Backend::kQemu},
      {"", false, proc::Backend::kDevice},      {"", true, proc::Backend::kQemu},
      {"nitro", false, proc::Backend::kDevice}, {"nitro", true, proc::Backend::kQemu},
      {"local", false, proc::Backend::kQemu},   {"local", true, proc::Backend::kQemu},
  };
  for (const auto& one : cases) {
    const testing::ScopedEnvironment variable("NITRO_CLI_BACKEND", one.variable);
    RunOptions given = options();
    given.local = one.option;
    const auto settings = read_settings(given);
    ASSERT_OK(settings);
    EXPECT_EQ(settings->request.backend, one.backend) << (one.variable ? one.variable : "not set") << one.option;
  }
  for (const char* unknown : {"Local", "qemu", "local ", "x"}) {
    const testing::ScopedEnvironment variable("NITRO_CLI_BACKEND", unknown);
    EXPECT_EQ(refusal(options()), ErrorCode::kInvalidArgument) << unknown;
  }
}

TEST(RunSettings, TakeNoReservedCid) {
  for (const char* cid : {"1", "2", "3", "4294967295", "4294967296", "18446744073709551615", "-1", "x"}) {
    RunOptions given = options();
    given.enclave_cid = cid;
    EXPECT_EQ(refusal(given), ErrorCode::kInvalidArgument) << cid;
  }
  for (const auto& [text, cid] : {std::pair("0", std::optional<std::uint64_t>()), {"4", 4U}}) {
    RunOptions given = options();
    given.enclave_cid = text;
    const auto settings = read_settings(given);
    ASSERT_OK(settings);
    EXPECT_EQ(settings->request.enclave_cid, cid) << text;
  }
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

TEST(RunConfig, HasEveryMemberThatAnEnclaveNeeds) {
  const auto settings = parse_config(
      R"({"eif_path": "/images/b.eif", "memory_mib": 96, "cpu_ids": [2, 1], "enclave_cid": 40, "enclave_name": "n",
          "debug_mode": true, "attach_console": true, "what nobody knows": 1})");
  ASSERT_OK(settings);
  EXPECT_EQ(settings->request.eif_path, "/images/b.eif");
  EXPECT_EQ(settings->request.memory.mib(), 96U);
  EXPECT_EQ(std::get<Ids>(settings->request.cpus), (Ids{2, 1}));
  EXPECT_EQ(settings->request.enclave_cid, 40U);
  EXPECT_EQ(settings->request.enclave_name, "n");
  EXPECT_TRUE(settings->request.debug_mode);
  EXPECT_TRUE(settings->attach_console);
  const auto least = parse_config(R"({"eif_path": "/images/b.eif", "memory_mib": 96, "cpu_count": 1})");
  ASSERT_OK(least);
  EXPECT_EQ(least->request.enclave_cid, std::nullopt);
  EXPECT_EQ(least->request.enclave_name, "b");
  EXPECT_FALSE(least->request.debug_mode);
  EXPECT_FALSE(least->attach_console);
}

TEST(RunConfig, NamesTheMemberWhoseValueIsOfAnotherKind) {
  struct Member {
    const char* name;
    const char* good;
    std::vector<const char*> bad;
  };
  const Member members[] = {
      {"eif_path", R"("a.eif")", {"1", "true", "[]", "{}", R"(["a.eif"])", "null"}},
      {"memory_mib", "64", {R"("64")", "-1", "64.5", "true", "[64]", "18446744073709551616", "null"}},
      {"cpu_count", "1", {R"("1")", "-1", "1.5", "false", "[1]", "4294967296"}},
      {"enclave_cid", "16", {R"("16")", "-1", "1.5", "false", "[16]"}},
      {"enclave_name", R"("n")", {"1", "true", R"(["n"])", "{}"}},
      {"debug_mode", "true", {"1", "0", R"("true")", "[true]"}},
      {"attach_console", "false", {"1", R"("false")", "{}"}},
  };
  const auto with = [&members](const char* name, const char* value) {
    std::string text;
    for (const Member& member : members) {
      text += text.empty() ? "{" : ", ";
      text += "\"" + std::string(member.name) + "\": " + (member.name == name ? value : member.good);
    }
    return parse_config(text + "}");
  };
  ASSERT_OK(with(nullptr, nullptr));
  for (const Member& member : members) {
    for (const char* value : member.bad) {
      const auto settings = with(member.name, value);
      ASSERT_FALSE(settings) << member.name << ": " << value;
      EXPECT_EQ(settings.error().code(), ErrorCode::kSerde) << member.name << ": " << value;
      EXPECT_NE(settings.error().message().find("\"" + std::string(member.name) + "\""), std::string::npos)
          << settings.error().message();
    }
  }
  for (const char* cid : {"1", "3", "4294967295", "4294967296"}) {
    EXPECT_EQ(with("enclave_cid", cid).error().code(), ErrorCode::kInvalidArgument) << cid;
  }
  EXPECT_EQ(with("memory_mib", "17592186044416").error().code(), ErrorCode::kSerde) << "2^64 bytes";
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
