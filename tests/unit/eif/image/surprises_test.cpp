// SPDX-License-Identifier: Apache-2.0
#include "eif/image/surprises.h"

#include <gtest/gtest.h>

#include <set>

namespace nitro::image {
namespace {

std::vector<std::string> surprises(const nlohmann::ordered_json& runtime, const std::set<std::string>& files = {}) {
  const nlohmann::ordered_json config{
      {"os", "linux"}, {"rootfs", {{"diff_ids", nlohmann::ordered_json::array()}}}, {"config", runtime}};
  const auto parsed = parse_config(config);
  EXPECT_TRUE(parsed);
  return surprises_in(*parsed, [&files](const std::string& path) { return files.contains(path); });
}

// All surprises in one text, or nothing.
void expect_one(const nlohmann::ordered_json& runtime, const std::vector<std::string>& parts,
                const std::set<std::string>& files = {}) {
  const auto found = surprises(runtime, files);
  ASSERT_EQ(found.size(), 1U) << runtime;
  for (const auto& part : parts) EXPECT_NE(found.front().find(part), std::string::npos) << found.front();
  EXPECT_EQ(found.front().find('\n'), std::string::npos) << found.front();
}

TEST(Surprises, AreNoneInImagesThatRunAsInAContainer) {
  const std::set<std::string> files = {"/app/run", "/app/a", "/a", "/usr/bin/app"};
  for (const char* runtime : {
           R"({"Cmd": ["/bin/app"]})",
           R"({"Entrypoint": ["/bin/app"], "Cmd": []})",
           R"({"Entrypoint": [], "Cmd": ["/bin/app"]})",
           R"({"Entrypoint": ["/bin/app"], "Cmd": null, "User": "", "WorkingDir": "/app"})",
           R"({"Cmd": ["run"], "WorkingDir": "/app"})",
           R"({"Cmd": ["/app/run", "a", "-x", "30"], "WorkingDir": "/app"})",
           R"({"Cmd": ["./run"], "WorkingDir": ""})",
           R"({"Cmd": ["usr/bin/app"], "WorkingDir": "/"})",
           R"({"Cmd": ["/bin/app"], "User": "root"})",
           R"({"Cmd": ["/bin/app"], "User": "0:0"})",
           R"({"Cmd": ["/bin/app"], "Env": ["A=b", "C"]})",
       }) {
    EXPECT_TRUE(surprises(nlohmann::ordered_json::parse(runtime), files).empty()) << runtime;
  }
}

TEST(Surprises, AreAnEntrypointThatDoesNotRun) {
  expect_one({{"Entrypoint", {"/entry\x1b", "-x"}}, {"Cmd", {"a b"}}},
             {"CMD [\"a b\"] alone", "ENTRYPOINT [\"/entry\\x1b\", \"-x\"]"});
}

TEST(Surprises, AreAUserWhoIsNotRoot) {
  for (const char* user : {"app", "1000:1000", "app:root"}) {
    expect_one({{"Cmd", {"/a"}}, {"User", user}}, {"USER \"" + std::string(user) + "\""});
  }
}

TEST(Surprises, AreFilesOfTheWorkingFolderThatTheCommandNames) {
  const std::set<std::string> files = {"/app/app.py", "/app/./run", "/app/bin/run"};
  for (const auto& [command, name] : {std::pair(R"(["python3", "app.py"])", "app.py"),
                                      {R"(["./run"])", "./run"},
                                      {R"(["bin/run"])", "bin/run"},
                                      {R"(["/bin/sh", "-c", "exec ./run  -v"])", "./run"}}) {
    expect_one({{"Cmd", nlohmann::ordered_json::parse(command)}, {"WorkingDir", "/app"}},
               {"WORKDIR \"/app\"", "\"" + std::string(name) + "\""}, files);
  }
}

TEST(Surprises, AreNewlinesThatEndAnEntry) {
  expect_one({{"Cmd", {"/bin/sh", "-c", "a\nb"}}}, {"\"a\\x0ab\""});
  expect_one({{"Cmd", {"/a"}}, {"Env", {"OK=1", "KEY=secret\nmore", "B=\n"}}}, {"\"KEY\""});
  EXPECT_EQ(surprises({{"Cmd", {"/a"}}, {"Env", {"KEY=secret\nmore"}}}).front().find("secret"), std::string::npos);
}

TEST(Surprises, AreZeroBytesThatTheFirstProcessRefuses) {
  expect_one({{"Cmd", {std::string("/a\0b", 4)}}}, {"zero byte"});
  expect_one({{"Cmd", {"/a"}}, {"Env", {std::string("A=\0", 3)}}}, {"zero byte"});
}

}  // namespace
}  // namespace nitro::image
