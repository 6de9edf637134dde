// SPDX-License-Identifier: Apache-2.0
#include "eif/image/ignore_file.h"

#include <gtest/gtest.h>

#include "temp_folder.h"
#include "tests/unit/eif/image/layer_maker.h"

namespace nitro::image {
namespace {

// tests/integration/images asks docker itself about such tables.
TEST(IgnorePattern, MatchesAsDockerDoes) {
  struct Case {
    std::string pattern;
    std::vector<std::string> paths;
    std::vector<std::string> others;
  };
  for (const auto& [text, paths, others] : std::vector<Case>{
           {"a", {"a"}, {"b", "aa", "a/b", "x/a", ""}},
           {"a/b", {"a/b"}, {"a", "b", "a/b/c", "x/a/b"}},
           {"*", {"a", "a.b", "."}, {"a/b"}},
           {"*.md", {".md", "x.md"}, {"md", "x.md.x", "a/x.md"}},
           {"a*b*c", {"abc", "axbxc", "abbcc"}, {"ab", "a/b/c", "abcd"}},
           {"a?", {"ab", "aü", "a."}, {"a", "abc", "a/"}},
           {"*/b", {"a/b", "/b"}, {"b", "a/a/b"}},
           {"**", {"", "a", "a/b"}, {}},
           {"**/b", {"b", "a/b", "a/a/b"}, {"ab", "b/a", "a/ab"}},
           {"**b", {"b", "ab", "a/ab"}, {"ba"}},
           {"**.log", {".log", "x.log", "a/x.log"}, {"x.log.x"}},
           {"**/*.go", {"x.go", "a/x.go", "a/b/x.go"}, {"a/x.go/y"}},
           {"**/a/**", {"a/b", "x/a/b/c", "x/y/a/b"}, {"a", "xa/b"}},
           {"a/**", {"a/b", "a/b/c"}, {"a", "ab", "b/a/c"}},
           {"a/**/b", {"a/b", "a/x/b", "a/x/y/b"}, {"ab", "a/xb", "a/b/c"}},
           {"a**", {"a", "ab", "a/b"}, {"ba"}},
           {"[a-c]x", {"ax", "bx", "cx"}, {"dx", "x", "-x"}},
           {"[^a-c]x", {"dx", "üx"}, {"ax"}},
           {"[ab\\]]", {"a", "]"}, {"\\"}},
           {"a\\*b", {"a*b"}, {"axb"}},
           {"\\#a", {"#a"}, {"\\#a"}},
           {"a.b", {"a.b"}, {"axb"}},
           {"a+(b)|{c}$", {"a+(b)|{c}$"}, {"aa(b)"}},
           {"\xff*", {"\xff", "\xff\xfe"}, {"x"}},
       }) {
    const auto pattern = IgnorePattern::parse(text);
    ASSERT_OK(pattern);
    for (const auto& path : paths) EXPECT_TRUE(pattern->matches(path)) << text << " " << path;
    for (const auto& path : others) EXPECT_FALSE(pattern->matches(path)) << text << " " << path;
  }
}

// A matcher that tries everything again and again is not done with this before the time limit of a test is over.
TEST(IgnorePattern, TakesLittleTimeForAnyPattern) {
  std::string text;
  for (int i = 0; i < 40; ++i) text += "**/a*";
  const auto pattern = IgnorePattern::parse(text + "b");
  ASSERT_OK(pattern);
  std::string path;
  for (int i = 0; i < 1000; ++i) path += "a/";
  EXPECT_FALSE(pattern->matches(path));
}

// What is ignored of `paths`, whose folders stand before what is in them.
std::vector<std::string> ignored(const IgnoreRules& rules, const std::vector<std::string>& paths) {
  std::vector<std::string> result;
  std::vector<std::pair<std::string, IgnoreRules::FolderState>> folders;
  for (const auto& path : paths) {
    IgnoreRules::FolderState parent;
    for (const auto& [name, state] : folders) {
      if (path.substr(0, path.rfind('/')) == name && path != name) parent = state;
    }
    auto verdict = rules.judge(path, parent);
    if (verdict.ignored) result.push_back(path);
    folders.emplace_back(path, std::move(verdict.state));
  }
  return result;
}

std::vector<std::string> ignored(const std::string& file, const std::vector<std::string>& paths) {
  const auto rules = IgnoreRules::parse(file);
  EXPECT_OK(rules);
  return rules ? ignored(*rules, paths) : std::vector<std::string>{};
}

using Paths = std::vector<std::string>;

TEST(IgnoreRules, SkipCommentsBlanksAndTheByteOrderMark) {
  EXPECT_EQ(
      ignored("\xef\xbb\xbf# comment\n\n  a \t\r\n # b\n/c/\n./d//e\n", {"# comment", "a", "# b", "c", "d", "d/e"}),
      (Paths{"a", "# b", "c", "d/e"}));
  EXPECT_EQ(ignored("", {"a"}), Paths{});
}

TEST(IgnoreRules, OfAFolderHoldForAllThatIsInIt) {
  EXPECT_EQ(ignored("a\n", {"a", "a/b", "a/b/c", "ab"}), (Paths{"a", "a/b", "a/b/c"}));
}

TEST(IgnoreRules, AreOverruledByLaterOnes) {
  EXPECT_EQ(ignored("*.md\n!README.md\nREADME.md\n", {"README.md", "x.md"}), (Paths{"README.md", "x.md"}));
  EXPECT_EQ(ignored("*.md\n! README*.md\nREADME-secret.md\n", {"README.md", "README-secret.md", "x.md"}),
            (Paths{"README-secret.md", "x.md"}));
  EXPECT_EQ(ignored("a\n!a/b\n", {"a", "a/b", "a/b/c", "a/x"}), (Paths{"a", "a/x"}));
  EXPECT_EQ(ignored("**\n!a/**\n", {"a", "a/b", "x"}), (Paths{"a", "x"}));
}

TEST(IgnoreRules, KnowWhereExceptionsMayBe) {
  const auto rules = IgnoreRules::parse("*\n!a/b/c\n!**/d\n");
  ASSERT_OK(rules);
  EXPECT_TRUE(rules->has_exceptions_in("a"));
  EXPECT_TRUE(rules->has_exceptions_in("a/b"));
  EXPECT_FALSE(rules->has_exceptions_in("b"));
  EXPECT_FALSE(rules->has_exceptions_in("aa"));
}

TEST(IgnoreRules, KeepWhatTheBuilderNeeds) {
  auto rules = IgnoreRules::parse("*\n");
  ASSERT_OK(rules);
  rules->keep("Dockerfile");
  EXPECT_EQ(ignored(*rules, {"Dockerfile", "Dockerfile.x", "a"}), (Paths{"Dockerfile.x", "a"}));
}

TEST(IgnoreRules, RefuseWhatIsNoPatternAndNameTheLine) {
  for (const char* text :
       {"a\n!\n", "a\n[\n", "a\n[]\n", "a\n[a\n", "a\n[a-\n", "a\n[-a]\n", "a\n[a-]\n", "a\nb\\\n"}) {
    const auto rules = IgnoreRules::parse(text);
    ASSERT_FALSE(rules) << text;
    EXPECT_EQ(rules.error().code(), ErrorCode::kDockerImageBuild);
    EXPECT_PRED2(contains, rules.error().message(), "line 2 (") << text;
  }
}

}  // namespace
}  // namespace nitro::image
