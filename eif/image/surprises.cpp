// SPDX-License-Identifier: Apache-2.0
#include "eif/image/surprises.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/bytes.h"

namespace nitro::image {

namespace {

constexpr std::string_view kBlanks = " \t\n";
// Limits for a word, and for a list of words, in a message.
constexpr std::size_t kShownBytes = 60;
constexpr std::size_t kShownListBytes = 200;

std::string shown(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) {
    if (text.size() > kShownListBytes) {
      text += ", ...";
      break;
    }
    text += (text.empty() ? "" : ", ") + quote(word.substr(0, kShownBytes));
  }
  return "[" + text + "]";
}

// Returns the first of `texts` that satisfies `is_so`, or nullptr.
template <class Predicate>
const std::string* first(const std::vector<std::string>& texts, const Predicate& is_so) {
  const auto found = std::find_if(texts.begin(), texts.end(), is_so);
  return found == texts.end() ? nullptr : &*found;
}

bool is_root(const std::string& user) {
  const auto name = user.substr(0, user.find(':'));
  return name.empty() || name == "root" || name == "0";
}

// Returns the first word of the command that names a file in the working folder but not in the root, where the command
// starts. Also searches the text of a shell command. A program without a slash is looked up in PATH, so it does not
// count.
std::string relative_file(const ImageConfig& config, const std::function<bool(const std::string&)>& exists) {
  bool program = true;
  for (const std::string& word : config.command) {
    std::string_view rest = word;
    while (true) {
      const auto start = rest.find_first_not_of(kBlanks);
      if (start == std::string_view::npos) break;
      const auto end = rest.find_first_of(kBlanks, start);
      std::string name(rest.substr(start, end == std::string_view::npos ? end : end - start));
      rest = end == std::string_view::npos ? std::string_view() : rest.substr(end);
      const bool in_path = program && name.find('/') == std::string::npos;
      if (!in_path && !name.starts_with('/') && exists(config.working_folder + "/" + name) && !exists("/" + name)) {
        return name;
      }
    }
    program = false;
  }
  return {};
}

}  // namespace

std::vector<std::string> surprises_in(const ImageConfig& config,
                                      const std::function<bool(const std::string& path)>& exists) {
  std::vector<std::string> surprises;
  if (!config.unused_entrypoint.empty()) {
    surprises.push_back(fmt::format(
        "the enclave runs CMD {} alone, without ENTRYPOINT {}; to run both, put the whole command into one of them",
        shown(config.command), shown(config.unused_entrypoint)));
  }
  if (!is_root(config.user)) {
    surprises.push_back(
        fmt::format("the enclave runs the command as root, not as USER {}; have the command change the user if it must",
                    quote(config.user.substr(0, kShownBytes))));
  }
  if (const auto name = relative_file(config, exists); !name.empty()) {
    surprises.push_back(fmt::format(
        "the enclave starts the command in \"/\", not in WORKDIR {}, where {} is; write its path from the root",
        quote(config.working_folder), quote(name)));
  }
  const auto has = [](char c) { return [c](const std::string& text) { return text.find(c) != std::string::npos; }; };
  if (const auto* word = first(config.command, has('\n')); word != nullptr) {
    surprises.push_back(fmt::format(
        "the command's word {} has a newline, and the enclave takes each of its lines for a word; put it into a script",
        quote(word->substr(0, kShownBytes))));
  }
  if (const auto* variable = first(config.environment, has('\n')); variable != nullptr) {
    surprises.push_back(fmt::format(
        "the variable {} has a newline, and the enclave takes each of its lines for a variable; keep it in a file",
        quote(variable->substr(0, variable->find_first_of("=\n")))));
  }
  if (first(config.command, has('\0')) != nullptr || first(config.environment, has('\0')) != nullptr) {
    surprises.emplace_back("the enclave will not start, as there is a zero byte in the command or in a variable");
  }
  return surprises;
}

}  // namespace nitro::image
