// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "nitro/result.h"

namespace nitro::image {

/// One pattern of a .dockerignore file: '*' and '?' within a name, "**" for any number of folders, [a-z], and '\' to
/// escape a character.
class IgnorePattern {
 public:
  /// `text` is a normalized path relative to the folder. Errors: kDockerImageBuild for an unterminated class or escape.
  static Result<IgnorePattern> parse(std::string_view text);

  /// Returns a pattern that matches exactly `name`, whatever characters it has.
  [[nodiscard]] static IgnorePattern literal(std::string_view name);

  [[nodiscard]] bool matches(std::string_view path) const;

 private:
  struct Range {
    char32_t first;
    char32_t last;
  };
  struct Token {
    enum class Kind { kCharacter, kAnyCharacter, kAnyName, kAnyFolders, kAnything, kClass };
    Kind kind;
    char32_t character = 0;          // of kCharacter
    bool negated = false;            // of kClass
    std::vector<Range> ranges = {};  // of kClass
  };
  static Result<Token> parse_class(std::u32string_view text, std::size_t& at);
  static bool takes(const Token& token, char32_t character);

  std::vector<Token> tokens_;
};

/// A .dockerignore file: which files below a folder are not sent to the engine, by the rules of Docker's command line.
class IgnoreRules {
 public:
  /// The rules' state for a folder, needed for its content. Empty for the folder that contains the .dockerignore file.
  using FolderState = std::vector<bool>;
  struct Verdict {
    bool ignored = false;
    FolderState state;
  };

  /// An empty text ignores nothing. Errors: kDockerImageBuild, with the line and what is wrong with it.
  static Result<IgnoreRules> parse(std::string_view text);

  /// Adds an exception for the file `name` if it would be ignored: the builder needs it.
  void keep(const std::string& name);

  /// Judges `path`, relative to the top folder; `parent` is the state returned for the folder it lies in. The last rule
  /// that applies to it, or to a folder above it, decides.
  [[nodiscard]] Verdict judge(std::string_view path, const FolderState& parent) const;
  /// Whether an exception (!PATH) names something in the ignored folder `path`, so that the folder must be searched.
  [[nodiscard]] bool has_exceptions_in(std::string_view path) const;

 private:
  struct Rule {
    std::string text;
    IgnorePattern pattern;
    bool exception;
  };
  std::vector<Rule> rules_;
};

}  // namespace nitro::image
