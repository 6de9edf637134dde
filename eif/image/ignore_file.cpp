// SPDX-License-Identifier: Apache-2.0
#include "eif/image/ignore_file.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "src/base/bytes.h"
#include "src/base/text.h"

namespace nitro::image {

namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
constexpr std::string_view kBlanks = " \t\r\v\f";

// Normalizes a pattern: "./a//b/" becomes "a/b", "/a" becomes "a".
std::string cleaned(std::string_view pattern) {
  auto path = std::filesystem::path(pattern).lexically_normal().string();
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  if (path.size() > 1 && path.starts_with('/')) path.erase(0, 1);
  return path;
}

// Names are UTF-8 by convention only: a byte that is not part of a character counts as one.
std::u32string characters(std::string_view text) {
  std::u32string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    char32_t character = length == 1 ? lead : lead & (0xffU >> (length + 1));
    bool whole = lead < 0xf8 && i + length <= text.size();
    for (std::size_t k = 1; whole && k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      whole = (next & 0xc0U) == 0x80U;
      character = (character << 6U) | (next & 0x3fU);
    }
    result += whole ? character : lead;
    i += whole ? length : 1;
  }
  return result;
}

Failure invalid(std::string_view reason) {
  return fail(ErrorCode::kDockerImageBuild, std::string(reason));
}

}  // namespace

// Parses "[a-z]" or "[^a-z]"; `at` starts after the '[' and ends after the ']'.
Result<IgnorePattern::Token> IgnorePattern::parse_class(std::u32string_view text, std::size_t& at) {
  Token token{Token::Kind::kClass};
  if (at < text.size() && text[at] == U'^') {
    token.negated = true;
    ++at;
  }
  const auto character = [&]() -> Result<char32_t> {
    if (at < text.size() && text[at] == U'\\') {
      ++at;
    } else if (at < text.size() && (text[at] == U'-' || text[at] == U']')) {
      return invalid("a character or range is missing between '[' and ']'");
    }
    if (at >= text.size()) return invalid("there is no ']' for a '['");
    return text[at++];
  };
  do {
    NITRO_TRY(const char32_t first, character());
    auto last = first;
    if (at < text.size() && text[at] == U'-') {
      ++at;
      NITRO_TRY(last, character());
    }
    token.ranges.push_back({first, last});
  } while (at >= text.size() || text[at] != U']');
  ++at;
  return token;
}

Result<IgnorePattern> IgnorePattern::parse(std::string_view pattern) {
  using Kind = Token::Kind;
  const auto text = characters(pattern);
  IgnorePattern result;
  // "**" before plain text matches any beginning, not only whole folders: "**.log" matches every name that ends so. Not
  // if other special characters follow: this rule of Docker is documented only by its code.
  const bool plain = text.find_first_of(U"*?[]\\", 2) == std::u32string::npos;
  for (std::size_t at = 0; at < text.size();) {
    const auto c = text[at++];
    if (c == U'*' && at < text.size() && text[at] == U'*') {
      const bool leading = at == 1;
      ++at;
      const bool folders = at < text.size() && text[at] == U'/';
      if (folders) ++at;
      const bool any_beginning = leading && plain && !folders;
      result.tokens_.push_back({at == text.size() || any_beginning ? Kind::kAnything : Kind::kAnyFolders});
    } else if (c == U'*') {
      result.tokens_.push_back({Kind::kAnyName});
    } else if (c == U'?') {
      result.tokens_.push_back({Kind::kAnyCharacter});
    } else if (c == U'[') {
      NITRO_TRY(auto token, parse_class(text, at));
      result.tokens_.push_back(std::move(token));
    } else if (c == U'\\') {
      if (at == text.size()) return invalid("there is nothing behind the last '\\'");
      result.tokens_.push_back({Kind::kCharacter, text[at++]});
    } else {
      result.tokens_.push_back({Kind::kCharacter, c});
    }
  }
  return result;
}

IgnorePattern IgnorePattern::literal(std::string_view name) {
  IgnorePattern result;
  for (const auto c : characters(name)) result.tokens_.push_back({Token::Kind::kCharacter, c});
  return result;
}

bool IgnorePattern::takes(const Token& token, char32_t character) {
  switch (token.kind) {
    case Token::Kind::kCharacter:
      return token.character == character;
    case Token::Kind::kAnyCharacter:
    case Token::Kind::kAnyName:
      return character != U'/';
    case Token::Kind::kAnyFolders:
    case Token::Kind::kAnything:
      return true;
    case Token::Kind::kClass:
      return token.negated != std::any_of(token.ranges.begin(), token.ranges.end(), [character](const Range& range) {
               return range.first <= character && character <= range.last;
             });
  }
  return false;
}

// Follows all ways through the pattern at once: states[i] means that the path so far matches the tokens before the
// i-th. The time is the product of both lengths, whatever the pattern.
bool IgnorePattern::matches(std::string_view path) const {
  using Kind = Token::Kind;
  const auto text = characters(path);
  const auto count = tokens_.size();
  const auto repeats = [this](std::size_t i) {
    const auto kind = tokens_[i].kind;
    return kind == Kind::kAnyName || kind == Kind::kAnyFolders || kind == Kind::kAnything;
  };
  std::vector<bool> states(count + 1);
  // The same for paths that end inside the i-th token, a "**/": it can only be left after a '/'.
  std::vector<bool> inside(count + 1);
  // Tokens that match the empty text can be skipped.
  const auto step_over = [&](std::size_t from) {
    for (auto i = from; i < count && repeats(i) && !states[i + 1]; ++i) states[i + 1] = true;
  };
  states[0] = true;
  step_over(0);
  for (const char32_t character : text) {
    std::vector<bool> next(count + 1);
    std::vector<bool> next_inside(count + 1);
    for (std::size_t i = 0; i < count; ++i) {
      const auto& token = tokens_[i];
      if (token.kind == Kind::kAnyFolders) {
        if (!states[i] && !inside[i]) continue;
        next_inside[i] = true;
        if (character == U'/') next[i + 1] = true;
      } else if (states[i] && takes(token, character)) {
        next[repeats(i) ? i : i + 1] = true;
      }
    }
    states = std::move(next);
    inside = std::move(next_inside);
    for (std::size_t i = 0; i < count; ++i) {
      if (states[i]) step_over(i);
    }
  }
  return states[count];
}

Result<IgnoreRules> IgnoreRules::parse(std::string_view text) {
  IgnoreRules rules;
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto end = text.find('\n');
    const auto raw = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    auto line = trimmed(raw, kBlanks);
    if (raw.starts_with('#') || line.empty()) continue;
    const auto failed = [&](std::string_view reason) {
      return invalid("line " + std::to_string(number) + " (" + quote(line) + "): " + std::string(reason));
    };
    const bool exception = line.starts_with('!');
    const auto path = exception ? trimmed(line.substr(1), kBlanks) : line;
    if (path.empty()) return failed("there is nothing behind the '!'");
    auto pattern_text = cleaned(path);
    auto pattern = IgnorePattern::parse(pattern_text);
    if (!pattern) return failed(pattern.error().message());
    rules.rules_.push_back({std::move(pattern_text), *std::move(pattern), exception});
  }
  return rules;
}

void IgnoreRules::keep(const std::string& name) {
  if (judge(name, {}).ignored) rules_.push_back({name, IgnorePattern::literal(name), true});
}

IgnoreRules::Verdict IgnoreRules::judge(std::string_view path, const FolderState& parent) const {
  Verdict verdict{false, FolderState(rules_.size())};
  for (std::size_t i = 0; i < rules_.size(); ++i) {
    const auto& rule = rules_[i];
    bool applies = !parent.empty() && parent[i];
    if (!applies) {
      // A rule that would not change the verdict is skipped, so it does not apply to the folder's content either.
      if (rule.exception != verdict.ignored) continue;
      applies = rule.pattern.matches(path);
    }
    verdict.state[i] = applies;
    if (applies) verdict.ignored = !rule.exception;
  }
  return verdict;
}

bool IgnoreRules::has_exceptions_in(std::string_view path) const {
  const auto folder = std::string(path) + "/";
  return std::any_of(rules_.begin(), rules_.end(),
                     [&folder](const Rule& rule) { return rule.exception && (rule.text + "/").starts_with(folder); });
}

}  // namespace nitro::image
