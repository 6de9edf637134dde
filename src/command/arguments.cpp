// SPDX-License-Identifier: Apache-2.0
#include "src/command/arguments.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/bytes.h"

namespace nitro {

namespace {

bool is_option(std::string_view word) {
  return word.size() > 1 && word.front() == '-';
}

const CLI::App* command_named(const CLI::App& application, const std::string& name) {
  const auto found =
      application.get_subcommands([&name](const CLI::App* command) { return command->check_name(name); });
  return found.empty() ? nullptr : found.front();
}

bool takes_value(const CLI::Option& option) {
  return option.get_items_expected_min() > 0;
}

std::size_t positionals_of(const CLI::App& command) {
  return command.get_options([](const CLI::Option* option) { return option->get_positional(); }).size();
}

/// Splits a word with an option: "--name=value" and "-nvalue", for options that take one.
std::pair<std::string, std::optional<std::string>> split(const CLI::App& command, const std::string& word) {
  constexpr std::size_t kShort = 2;  // "-n"
  if (word.starts_with("--")) {
    const auto equals = word.find('=');
    if (equals == std::string::npos) return {word, std::nullopt};
    return {word.substr(0, equals), word.substr(equals + 1)};
  }
  const auto* const option = command.get_option_no_throw(word.substr(0, kShort));
  if (word.size() == kShort || option == nullptr || !takes_value(*option)) return {word, std::nullopt};
  return {word.substr(0, kShort), word.substr(word[kShort] == '=' ? kShort + 1 : kShort)};
}

}  // namespace

void parse_arguments(CLI::App& application, int argc, const char* const* argv) {
  std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  const bool has_commands = !std::as_const(application).get_subcommands(nullptr).empty();
  if (has_commands && !words.empty() && words.front() == "help") {
    words.erase(words.begin());
    words.emplace_back("--help");
  }
  const CLI::App* command = &application;
  std::vector<std::string> parsed;
  std::size_t positionals = 0;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!is_option(word)) {
      if (positionals < positionals_of(*command)) {
        ++positionals;
        parsed.push_back(word);
        continue;
      }
      const auto* const next = command == &application ? command_named(application, word) : nullptr;
      if (next == nullptr) {
        throw CLI::ExtrasError(command == &application && has_commands
                                   ? quote(word) + " is not a command"
                                   : "the argument " + quote(word) + " is not expected",
                               CLI::ExitCodes::ExtrasError);
      }
      command = next;
      parsed.push_back(word);
      continue;
    }
    const auto [name, value] = split(*command, word);
    const auto* const option = command->get_option_no_throw(name);
    if (option == nullptr) {
      throw CLI::ExtrasError("there is no option " + quote(name), CLI::ExitCodes::ExtrasError);
    }
    parsed.push_back(name);
    if (!takes_value(*option)) {
      if (value) throw CLI::ArgumentMismatch(name + " takes no value");
      continue;
    }
    if (value) {
      parsed.push_back(*value);
    } else if (i + 1 == words.size()) {
      throw CLI::ArgumentMismatch(name + " needs a value");
    } else if (is_option(words[i + 1])) {
      throw CLI::ArgumentMismatch(name + " needs a value; if " + quote(words[i + 1]) + " is meant, write " + name +
                                  "=" + words[i + 1]);
    } else {
      parsed.push_back(words[++i]);
      // Options with several values take the words up to the next option.
      while (option->get_items_expected_max() > 1 && option->get_allow_extra_args() && i + 1 < words.size() &&
             !is_option(words[i + 1])) {
        parsed.push_back(words[++i]);
      }
    }
  }
  // CLI11 consumes them from the end.
  std::reverse(parsed.begin(), parsed.end());
  application.parse(parsed);
}

}  // namespace nitro
